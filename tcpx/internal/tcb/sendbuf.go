package tcb

import (
	"io"

	"gvisor.dev/gvisor/pkg/buffer"
)

// Sizes of the memory that a write goes to. Small writes share a chunk as long as none of it has been sent.
const (
	minChunk = 512
	maxChunk = 64 << 10
)

// chunk is a stretch of the stream in one view.
type chunk struct {
	seq  Seq
	view *buffer.View
}

func (c *chunk) end() Seq { return c.seq.Add(c.view.Size()) }

// sendBuffer is the stream from SND.UNA to the last octet written, in chunks that segments slice without copying.
type sendBuffer struct {
	chunks []chunk
	head   int
	// next is the sequence number of the next octet to be written, len the octets held.
	next Seq
	len  int
	// lr is kept here so that a write allocates nothing but the chunk.
	lr io.LimitedReader
}

// write appends up to n octets read from r. sent is SND.NXT: a chunk that reaches below it is shared with packets and takes no more.
func (b *sendBuffer) write(r io.Reader, n int, sent Seq) (int, error) {
	total := 0
	for total < n {
		v := b.room(n-total, sent)
		k := min(n-total, v.AvailableSize())
		b.lr = io.LimitedReader{R: r, N: int64(k)}
		m, err := v.ReadFrom(&b.lr)
		b.lr.R = nil
		b.next = b.next.Add(int(m))
		b.len += int(m)
		total += int(m)
		if err != nil || int(m) < k {
			b.dropEmptyTail()
			return total, err
		}
	}
	return total, nil
}

// room returns a view with room for at least one octet.
func (b *sendBuffer) room(n int, sent Seq) *buffer.View {
	size := max(n, minChunk)
	if k := len(b.chunks); k > b.head {
		c := &b.chunks[k-1]
		// A small chunk takes more even if a packet shares it: copying it costs less than a chunk for each octet of a user who writes few at a time.
		if sent.Leq(c.seq) || c.view.Capacity() <= minChunk {
			if c.view.AvailableSize() > 0 {
				return c.view
			}
			size = max(size, 2*c.view.Capacity())
		}
	}
	v := buffer.NewView(min(size, maxChunk))
	if b.head > 32 && b.head > len(b.chunks)/2 {
		b.chunks = append(b.chunks[:0], b.chunks[b.head:]...)
		b.head = 0
	}
	b.chunks = append(b.chunks, chunk{b.next, v})
	return v
}

func (b *sendBuffer) dropEmptyTail() {
	if k := len(b.chunks); k > b.head && b.chunks[k-1].view.Size() == 0 {
		b.chunks[k-1].view.Release()
		b.chunks[k-1] = chunk{}
		b.chunks = b.chunks[:k-1]
	}
}

// ack drops what lies before una.
func (b *sendBuffer) ack(una Seq) {
	for b.head < len(b.chunks) && b.chunks[b.head].end().Leq(una) {
		b.chunks[b.head].view.Release()
		b.chunks[b.head] = chunk{}
		b.head++
	}
	b.len = max(b.next.Sub(una), 0)
	if b.head == len(b.chunks) {
		b.chunks, b.head = b.chunks[:0], 0
	}
}

// shrink gives back the bookkeeping's memory when nothing is held.
func (b *sendBuffer) shrink() {
	if b.len == 0 && len(b.chunks) == 0 {
		b.chunks = nil
	}
}

// slice returns n octets from s on, sharing memory with the buffer.
func (b *sendBuffer) slice(s Seq, n int) buffer.Buffer {
	var out buffer.Buffer
	for i := b.find(s); n > 0 && i < len(b.chunks); i++ {
		c := &b.chunks[i]
		off := s.Sub(c.seq)
		k := min(n, c.view.Size()-off)
		v := c.view.Clone()
		if off > 0 {
			v.TrimFront(off)
		}
		v.CapLength(k)
		_ = out.Append(v) // fails only for a nil view
		s = s.Add(k)
		n -= k
	}
	return out
}

func (b *sendBuffer) find(s Seq) int {
	lo, hi := b.head, len(b.chunks)
	for lo < hi {
		m := int(uint(lo+hi) >> 1)
		if b.chunks[m].end().Leq(s) {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo
}

func (b *sendBuffer) release() {
	for i := b.head; i < len(b.chunks); i++ {
		b.chunks[i].view.Release()
	}
	*b = sendBuffer{next: b.next}
}
