package capture

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The defaults of Options.
const (
	DefaultSnapLength = 262144   // what tcpdump uses; no packet is longer
	DefaultQueueBytes = 16 << 20 // about a second of a gigabit link at 10 %
)

// Options configure a capture. The zero value is usable.
type Options struct {
	// Name is the interface name in the file.
	Name string
	// SnapLength is the most bytes recorded of one packet, link header included.
	// Zero means DefaultSnapLength.
	SnapLength uint32
	// Clock tells the time of a packet. Nil means the system's.
	Clock tcpip.Clock
	// QueueBytes is how much may wait to be written, approximately. Zero means
	// DefaultQueueBytes.
	QueueBytes int
	// Lossless makes the link wait for the writer instead of leaving packets
	// out.
	Lossless bool
	// LinkType is the link type of the file as tcpdump.org numbers them. Zero
	// means Ethernet (1) if the endpoint says so, and raw IP (101) otherwise.
	LinkType uint16
}

// Stats count packets since the capture began.
type Stats struct {
	// Inbound and Outbound packets were handed to the writer.
	Inbound, Outbound uint64
	// Truncated of them were longer than the snap length.
	Truncated uint64
	// Dropped packets were left out because the queue was full or the capture
	// closed.
	Dropped uint64
	// Refused of the Outbound packets were recorded but not taken by the link.
	// They are recorded before the link sees them, as the answer to a packet
	// may arrive before the link says that it took it.
	Refused uint64
}

// Endpoint is a link endpoint that records what crosses the one it wraps. Its
// methods may be called concurrently.
//
// Close closes the wrapped endpoint and ends the capture, which is complete in
// the file once Wait returns.
type Endpoint struct {
	nested.Endpoint

	snap  int
	queue *queue
	done  chan struct{} // closed when the writer has returned

	inbound, outbound, truncated, refused atomic.Uint64

	mu  sync.Mutex
	err error // the first error of the writer; guarded by mu
}

var (
	_ stack.LinkEndpoint      = (*Endpoint)(nil)
	_ stack.GSOEndpoint       = (*Endpoint)(nil)
	_ stack.NetworkDispatcher = (*Endpoint)(nil)
)

// New wraps child and begins a capture to w by writing the file's header. The
// capture uses w from one goroutine until Wait returns after Close; it does not
// close it.
func New(child stack.LinkEndpoint, w io.Writer, opts Options) (*Endpoint, error) {
	return start(child, w, nil, opts)
}

// start begins a capture to w, which is the first of files unless they are nil.
func start(child stack.LinkEndpoint, w io.Writer, files *rotation, opts Options) (*Endpoint, error) {
	if opts.SnapLength == 0 {
		opts.SnapLength = DefaultSnapLength
	}
	if opts.QueueBytes == 0 {
		opts.QueueBytes = DefaultQueueBytes
	}
	if opts.Clock == nil {
		opts.Clock = tcpip.NewStdClock()
	}
	linkType := layers.LinkType(opts.LinkType)
	if linkType == 0 {
		linkType = layers.LinkTypeRaw
		if child.ARPHardwareType() == header.ARPHardwareEther {
			linkType = layers.LinkTypeEthernet
		}
	}
	out := &output{
		iface: pcapgo.NgInterface{Name: opts.Name, LinkType: linkType, SnapLength: opts.SnapLength, TimestampResolution: 9},
		files: files,
	}
	if err := out.begin(w); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	e := &Endpoint{
		snap:  int(opts.SnapLength),
		queue: newQueue(opts.QueueBytes, opts.Lossless, opts.Clock),
		done:  make(chan struct{}),
	}
	e.Init(child, e)
	go e.write(out)
	return e, nil
}

// Stats returns a snapshot of the counters.
func (e *Endpoint) Stats() Stats {
	return Stats{
		Inbound:   e.inbound.Load(),
		Outbound:  e.outbound.Load(),
		Truncated: e.truncated.Load(),
		Dropped:   e.queue.drops(),
		Refused:   e.refused.Load(),
	}
}

// Err returns the first error of writing to the file, or nil. The link goes on
// without being recorded after one.
func (e *Endpoint) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// Flush returns once what was recorded before it is written. After Close it
// does what Wait does.
func (e *Endpoint) Flush() error {
	flushed := make(chan struct{})
	if e.queue.put(record{flushed: flushed}) {
		<-flushed
	} else {
		<-e.done
	}
	return e.Err()
}

// Close implements stack.LinkEndpoint.
func (e *Endpoint) Close() {
	e.Endpoint.Close()
	e.queue.close()
}

// Wait implements stack.LinkEndpoint. After Close it also waits for the file to
// be complete.
func (e *Endpoint) Wait() {
	e.Endpoint.Wait()
	if e.queue.isClosed() {
		<-e.done
	}
}

// DeliverNetworkPacket implements stack.NetworkDispatcher for the wrapped
// endpoint.
func (e *Endpoint) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if e.record(pkt, true) {
		e.inbound.Add(1)
	}
	e.Endpoint.DeliverNetworkPacket(proto, pkt)
}

// WritePackets implements stack.LinkEndpoint.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	total := pkts.Len()
	for _, pkt := range pkts.AsSlice() {
		if e.record(pkt, false) {
			e.outbound.Add(1)
		}
	}
	n, err := e.Endpoint.WritePackets(pkts)
	if n < total {
		e.refused.Add(uint64(total - n))
	}
	return n, err
}

// record copies as much of pkt as is wanted into the queue.
func (e *Endpoint) record(pkt *stack.PacketBuffer, inbound bool) bool {
	r := record{inbound: inbound, length: pkt.Size()}
	want := min(r.length, e.snap)
	if want > 0 {
		r.data = buffer.NewView(want)
		views, skip := pkt.AsViewList()
		for v := views.Front(); v != nil && want > 0; v = v.Next() {
			b := v.AsSlice()
			if skip >= len(b) {
				skip -= len(b)
				continue
			}
			b = b[skip:min(len(b), skip+want)]
			skip = 0
			want -= len(b)
			r.data.Write(b)
		}
	}
	truncated := r.length > e.snap
	if !e.queue.put(r) {
		return false
	}
	if truncated {
		e.truncated.Add(1)
	}
	return true
}

// write writes records until the queue is closed and empty.
func (e *Endpoint) write(out *output) {
	defer close(e.done)
	var spare []record
	for {
		records, ok := e.queue.take(spare)
		if !ok {
			break
		}
		for i := range records {
			r := &records[i]
			if r.flushed != nil {
				e.check(out.ng.Flush())
				close(r.flushed)
				continue
			}
			// The link goes on without being recorded after an error.
			if e.Err() == nil {
				e.check(out.write(r))
			}
			if r.data != nil {
				r.data.Release()
			}
		}
		clear(records)
		spare = records
		if e.queue.empty() {
			// Let whoever follows the file see what there is.
			e.check(out.ng.Flush())
		}
	}
	if e.Err() == nil {
		e.check(out.end(e.queue.drops()))
	} else if out.files != nil {
		_ = out.files.close() // there is an error already
	}
}

// check keeps the first error.
func (e *Endpoint) check(err error) {
	if err == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.err == nil {
		e.err = fmt.Errorf("capture: %w", err)
	}
}
