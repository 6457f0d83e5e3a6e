// Package live judges the TCP on a link while it is in use: it wraps any link
// endpoint of a netstack and shows each packet to an oracle.
//
//	link = live.Wrap(link, live.Options{})
//	s.CreateNIC(1, link)
//	...
//	report := link.Report()
//
// Packets are judged where they cross the wrapper: before the wrapped endpoint
// sends them, and before the stack gets them. What the stack sends is therefore
// seen in the order in which it sends it, as long as the stack writes the
// packets of one connection one after the other.
//
// Memory is bounded as oracle.Options says, so that a link may be watched for as
// long as it lives.
package live

import (
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/oracle"
)

// Options configure Wrap. The zero value is usable.
type Options struct {
	// Oracle is what is known of the link. Near should have the addresses of
	// the stack. Its functions are called with a lock held: they must not use
	// the endpoint.
	Oracle oracle.Options
	// Clock tells the time of a packet. Nil means the system's.
	Clock tcpip.Clock
}

// Endpoint is a link endpoint whose packets are judged. Its methods may be
// called concurrently.
type Endpoint struct {
	nested.Endpoint

	clock    tcpip.Clock
	start    tcpip.MonotonicTime
	linkType int

	mu      sync.Mutex
	checker *oracle.Checker // guarded by mu
	buf     []byte          // guarded by mu
}

var (
	_ stack.LinkEndpoint      = (*Endpoint)(nil)
	_ stack.GSOEndpoint       = (*Endpoint)(nil)
	_ stack.NetworkDispatcher = (*Endpoint)(nil)
)

// Wrap wraps child.
func Wrap(child stack.LinkEndpoint, opts Options) *Endpoint {
	if opts.Clock == nil {
		opts.Clock = tcpip.NewStdClock()
	}
	e := &Endpoint{clock: opts.Clock, start: opts.Clock.NowMonotonic(), linkType: oracle.LinkRaw, checker: oracle.New(opts.Oracle)}
	if child.ARPHardwareType() == header.ARPHardwareEther {
		e.linkType = oracle.LinkEthernet
	}
	e.Init(child, e)
	return e
}

// Report ends the judging and returns what became of the packets so far. The
// link goes on unjudged; further calls return the same.
func (e *Endpoint) Report() *oracle.Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.checker.Report()
}

// DeliverNetworkPacket implements stack.NetworkDispatcher for the wrapped
// endpoint.
func (e *Endpoint) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	e.judge(pkt)
	e.Endpoint.DeliverNetworkPacket(proto, pkt)
}

// WritePackets implements stack.LinkEndpoint. A packet that the wrapped endpoint
// refuses is judged as one that was lost on its way.
func (e *Endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		e.judge(pkt)
	}
	return e.Endpoint.WritePackets(pkts)
}

// judge shows one packet to the oracle.
func (e *Endpoint) judge(pkt *stack.PacketBuffer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.buf = e.buf[:0]
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		n := min(skip, len(b))
		skip -= n
		e.buf = append(e.buf, b[n:]...)
	}
	e.checker.Frame(e.clock.NowMonotonic().Sub(e.start), e.linkType, e.buf, len(e.buf))
}
