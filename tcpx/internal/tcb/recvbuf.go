package tcb

import (
	"io"
	"slices"
	"sort"

	"github.com/plumbline/plumbline/tcpx/internal/seq"
	"gvisor.dev/gvisor/pkg/buffer"
)

// smallText is the size up to which received text is copied together rather than kept in the chunk that it arrived in, which may be much larger.
const smallText = 256

// viewOverhead is what a view and its chunk cost beside the text, roughly.
const viewOverhead = 128

// wasteful reports whether the memory that p holds is out of proportion to its text, as with small segments in the large chunks of a receive offload.
func wasteful(p *buffer.Buffer) bool {
	held, limit := 0, 4*int(p.Size())
	list := p.AsViewList()
	for v := list.Front(); v != nil && held <= limit; v = v.Next() {
		held += v.Capacity() + viewOverhead
	}
	return held > limit
}

// compact copies the text of p into memory of its own if it holds too much.
func compact(p *buffer.Buffer) {
	if wasteful(p) {
		flatten(p)
	}
}

// flatten copies the text of p into one view.
func flatten(p *buffer.Buffer) {
	v := buffer.NewView(int(p.Size()))
	copyText(v, p)
	*p = buffer.MakeWithView(v)
}

// copyText moves the text of p to the end of v.
func copyText(v *buffer.View, p *buffer.Buffer) {
	list := p.AsViewList()
	for s := list.Front(); s != nil; s = s.Next() {
		_, _ = v.Write(s.AsSlice()) // a view grows as needed and never fails
	}
	p.Release()
}

// smallChunk is the size of the views in which small text is gathered.
const smallChunk = 2048

// recvBuffer holds the text received in order that the user has not read.
type recvBuffer struct {
	buf buffer.Buffer
}

func (b *recvBuffer) len() int { return int(b.buf.Size()) }

// put takes the text of p.
func (b *recvBuffer) put(p *buffer.Buffer) {
	if p.Size() > smallText || b.buf.Size() == 0 {
		compact(p)
		b.buf.Merge(p)
		return
	}
	// Append copies into the last view if that is ours alone and has room; if not, the new view gets room for what follows.
	n := int(p.Size())
	list := b.buf.AsViewList()
	if list.Back().AvailableSize() < n {
		n = smallChunk
	}
	v := buffer.NewView(n)
	copyText(v, p)
	_ = b.buf.Append(v) // fails only for a nil view
}

// read copies up to n octets to w; without peek they are consumed.
func (b *recvBuffer) read(w io.Writer, n int, peek bool) (int, error) {
	m, err := b.buf.ReadToWriter(w, int64(min(n, b.len())))
	if !peek && m > 0 {
		b.buf.TrimFront(m)
	}
	return int(m), err
}

func (b *recvBuffer) release() {
	b.buf.Release()
}

// piece is a stretch of text that arrived out of order.
type piece struct {
	lo, hi Seq
	buf    buffer.Buffer
	// parts is the number of segments that it came in.
	parts int
	fin   bool
}

// partOverhead is what each part costs beside its text: small segments must not be cheap for a hostile peer.
const partOverhead = 256

// maxPieces bounds the work that holes cost: inserting is linear in their number.
const maxPieces = 4096

// maxRecent is how many places of recent arrivals are remembered for SACK blocks.
const maxRecent = 4

// reassembly holds the text out of order: sorted pieces with holes between them.
type reassembly struct {
	pieces []piece
	bytes  int
	parts  int
	// recent holds a sequence number in each of the pieces that changed last, the latest first (RFC 2018 §4).
	recent  [maxRecent]Seq
	nrecent int
}

// cost is the memory held.
func (r *reassembly) cost() int { return r.bytes + r.parts*partOverhead }

// find returns the first piece that ends after s.
func (r *reassembly) find(s Seq) int {
	return sort.Search(len(r.pieces), func(i int) bool { return s.Less(r.pieces[i].hi) })
}

// insert adds the text [lo, hi) of p, keeping what it holds already where both overlap. It returns the first part that was a duplicate, to be reported
// by DSACK (RFC 2883 §4).
func (r *reassembly) insert(lo, hi Seq, p *buffer.Buffer, fin bool) (dup Block) {
	at := lo
	defer func() { r.touch(at) }()
	i := r.find(lo)
	for i < len(r.pieces) && r.pieces[i].lo.Less(hi) {
		if q := r.pieces[i].lo; lo.Less(q) {
			// The part before the piece is new and closes up to it.
			i = r.place(i, piece{lo: lo, hi: q, buf: cut(p, q.Sub(lo)), parts: 1})
			lo = q
		}
		end := seq.Min(hi, r.pieces[i].hi)
		if dup.Left == dup.Right {
			dup = Block{lo, end}
		}
		p.TrimFront(int64(end.Sub(lo)))
		if lo = end; lo == hi {
			r.pieces[i].fin = r.pieces[i].fin || fin && r.pieces[i].hi == hi
			return dup
		}
		i++
	}
	r.place(i, piece{lo: lo, hi: hi, buf: *p, parts: 1, fin: fin})
	*p = buffer.Buffer{}
	return dup
}

// overlap returns the first part of [lo, hi) that is there already, or an empty block.
func (r *reassembly) overlap(lo, hi Seq) Block {
	i := r.find(lo)
	if i == len(r.pieces) || hi.Leq(r.pieces[i].lo) {
		return Block{}
	}
	return Block{seq.Max(lo, r.pieces[i].lo), seq.Min(hi, r.pieces[i].hi)}
}

// place puts x before piece i, joins it with neighbours that it touches, and returns the index of the piece that holds it.
func (r *reassembly) place(i int, x piece) int {
	r.bytes += x.hi.Sub(x.lo)
	r.parts += x.parts
	if i > 0 && r.pieces[i-1].hi == x.lo {
		i--
		r.pieces[i].join(&x)
	} else {
		r.pieces = slices.Insert(r.pieces, i, x)
	}
	if i+1 < len(r.pieces) && r.pieces[i].hi == r.pieces[i+1].lo {
		r.pieces[i].join(&r.pieces[i+1])
		r.pieces = slices.Delete(r.pieces, i+1, i+2)
	}
	return i
}

func (x *piece) join(y *piece) {
	x.buf.Merge(&y.buf)
	x.hi, x.fin, x.parts = y.hi, y.fin, x.parts+y.parts
}

// touch remembers that the piece which holds s changed, once for each piece.
func (r *reassembly) touch(s Seq) {
	i := r.find(s)
	if i == len(r.pieces) {
		return
	}
	keep := [maxRecent + 1]Seq{s}
	n := 1
	for _, o := range r.recent[:r.nrecent] {
		if !o.In(r.pieces[i].lo, r.pieces[i].hi) {
			keep[n] = o
			n++
		}
	}
	r.nrecent = min(n, maxRecent)
	copy(r.recent[:], keep[:])
}

// cut takes the first n octets off p.
func cut(p *buffer.Buffer, n int) buffer.Buffer {
	head := p.Clone()
	head.Truncate(int64(n))
	p.TrimFront(int64(n))
	return head
}

// squeeze copies together the pieces that cost more by their parts than by their text.
func (r *reassembly) squeeze() {
	for i := range r.pieces {
		if x := &r.pieces[i]; x.parts > 1 && x.parts*partOverhead > x.hi.Sub(x.lo) {
			flatten(&x.buf)
			r.parts -= x.parts - 1
			x.parts = 1
		}
	}
}

// next returns the piece that continues at s, ok if there is one. What lies before s is dropped.
func (r *reassembly) next(s Seq) (x piece, ok bool) {
	for len(r.pieces) > 0 && r.pieces[0].lo.Leq(s) {
		x = r.pieces[0]
		r.forget(0)
		if x.hi.Less(s) || x.hi == s && !x.fin {
			x.buf.Release()
			continue
		}
		x.buf.TrimFront(int64(s.Sub(x.lo)))
		x.lo = s
		return x, true
	}
	return piece{}, false
}

// forget takes piece i out without releasing its text.
func (r *reassembly) forget(i int) {
	r.bytes -= r.pieces[i].hi.Sub(r.pieces[i].lo)
	r.parts -= r.pieces[i].parts
	r.pieces = slices.Delete(r.pieces, i, i+1)
	if len(r.pieces) == 0 {
		*r = reassembly{}
	}
}

// dropLast discards the piece furthest to the right, as memory pressure asks; SACK allows it (RFC 2018 §8).
func (r *reassembly) dropLast() {
	i := len(r.pieces) - 1
	r.pieces[i].buf.Release()
	r.forget(i)
}

// blocks writes the SACK blocks to b, the most recently changed first (RFC 2018 §4), then others as far as there is room, and returns their number.
func (r *reassembly) blocks(b []Block) int {
	n := 0
	for _, s := range r.recent[:r.nrecent] {
		if i := r.find(s); i < len(r.pieces) && !s.Less(r.pieces[i].lo) {
			n = r.block(b, n, i)
		}
	}
	for i := 0; i < len(r.pieces) && n < len(b); i++ {
		n = r.block(b, n, i)
	}
	return n
}

// block puts piece i into b unless it is among the n blocks there, or a bare FIN, which takes no block. It returns how many there are then.
func (r *reassembly) block(b []Block, n, i int) int {
	x := Block{r.pieces[i].lo, r.pieces[i].hi}
	if n == len(b) || x.Left == x.Right || slices.Contains(b[:n], x) {
		return n
	}
	b[n] = x
	return n + 1
}

func (r *reassembly) release() {
	for i := range r.pieces {
		r.pieces[i].buf.Release()
	}
	*r = reassembly{}
}
