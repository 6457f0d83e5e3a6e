package testbed

import (
	"fmt"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Check is one number that a scenario was made to measure, and the range in which a sender that follows the rule has it.
type Check struct {
	// Quantity says what was measured and Unit in what; Source names the rule.
	Quantity string `json:"quantity"`
	Unit     string `json:"unit"`
	Source   string `json:"source"`
	// Value is what was measured.
	Value float64 `json:"value"`
	// Least and Most bound what is right.
	Least float64 `json:"least"`
	Most  float64 `json:"most"`
}

// OK reports whether the value is right.
func (c *Check) OK() bool { return c.Value >= c.Least && c.Value <= c.Most }

// check is a Check to be made. The scenario has one flow.
type check struct {
	Check
	// measure returns the number, or why this run does not have it.
	measure func(*recording) (float64, error)
}

// recording is what a check sees of the sender: its packets, and its window after each event.
type recording struct {
	// mu guards what the link notes: a stack may send from several goroutines. While a check is made none runs.
	mu      sync.Mutex
	packets []packetSeen
	windows []windowSeen
	start   tcpip.MonotonicTime
	clock   tcpip.Clock
	highest uint32 // the end of the data sent so far
	// duplicates is how many packets of the sender the path delivered twice.
	duplicates uint64
}

// packetSeen is a packet of the flow at the sender's link.
type packetSeen struct {
	at       time.Duration
	received bool   // an ACK, or else data that leaves
	seq      uint32 // of data, relative to the first byte
	length   int
	again    bool   // begins below what had been sent
	ack      uint32 // of an ACK, in the same units
	dsack    bool   // its first SACK block repeats what is acknowledged (RFC 2883)
}

// windowSeen is the sender's window since an instant. A window without limit has the threshold 0.
type windowSeen struct {
	at             time.Duration
	cwnd, ssthresh float64 // segments
}

// now returns the time since the start of the simulation.
func (r *recording) now() time.Duration { return r.clock.NowMonotonic().Sub(r.start) }

// look notes the window if it has changed.
func (r *recording) look(v *view) {
	w := windowSeen{at: r.now(), cwnd: float64(v.cwnd) / SegmentPayload, ssthresh: float64(v.ssthresh)}
	if n := len(r.windows); v.cwnd == 0 || n > 0 && r.windows[n-1].cwnd == w.cwnd && r.windows[n-1].ssthresh == w.ssthresh {
		return
	}
	r.windows = append(r.windows, w)
}

// recorder is a link endpoint that notes the TCP segments that cross it.
type recorder struct {
	nested.Endpoint
	child stack.LinkEndpoint
	*recording
	connected bool   // a SYN has left
	first     uint32 // sequence number of the first byte
}

// record wraps the sender's link.
func (r *recording) record(child stack.LinkEndpoint) stack.LinkEndpoint {
	e := &recorder{child: child, recording: r}
	e.Endpoint.Init(child, e)
	return e
}

// WritePackets implements stack.LinkEndpoint.
func (r *recorder) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, p := range pkts.AsSlice() {
		r.leaving(header.TCP(p.TransportHeader().Slice()), p.Data().Size())
	}
	return r.child.WritePackets(pkts)
}

// leaving notes a segment with n bytes of data.
func (r *recorder) leaving(h header.TCP, n int) {
	if len(h) < header.TCPMinimumSize {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if h.Flags()&header.TCPFlagSyn != 0 {
		r.first, r.connected = h.SequenceNumber()+1, true
	}
	if n == 0 || !r.connected {
		return
	}
	seq := h.SequenceNumber() - r.first
	r.packets = append(r.packets, packetSeen{at: r.now(), seq: seq, length: n, again: seq < r.highest})
	r.highest = max(r.highest, seq+uint32(n))
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (r *recorder) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	if b := header.IPv4(pkt.Data().AsRange().ToSlice()); len(b) >= header.IPv4MinimumSize && len(b) >= int(b.HeaderLength())+header.TCPMinimumSize {
		h := header.TCP(b[b.HeaderLength():])
		if h.Flags()&(header.TCPFlagSyn|header.TCPFlagAck) == header.TCPFlagAck {
			r.mu.Lock()
			r.packets = append(r.packets, packetSeen{at: r.now(), received: true, ack: h.AckNumber() - r.first, dsack: isDSACK(h)})
			r.mu.Unlock()
		}
	}
	r.Endpoint.DeliverNetworkPacket(protocol, pkt)
}

// isDSACK reports whether the first SACK block repeats what is acknowledged, cumulatively or by the second block (RFC 2883 §4).
func isDSACK(h header.TCP) bool {
	blocks := h.ParsedOptions().SACKBlocks
	if len(blocks) == 0 {
		return false
	}
	return int32(uint32(blocks[0].End)-h.AckNumber()) <= 0 ||
		len(blocks) > 1 && blocks[1].Start.LessThanEq(blocks[0].Start) && blocks[0].End.LessThanEq(blocks[1].End)
}

// windowAt returns the window at an instant.
func (r *recording) windowAt(at time.Duration) (windowSeen, error) {
	for i := len(r.windows) - 1; i >= 0; i-- {
		if r.windows[i].at <= at {
			return r.windows[i], nil
		}
	}
	return windowSeen{}, fmt.Errorf("no window by %v", at)
}

// reductions returns the places in windows at which the threshold first had a value, or fell.
func (r *recording) reductions() []int {
	var out []int
	for i := 1; i < len(r.windows); i++ {
		if now, before := r.windows[i].ssthresh, r.windows[i-1].ssthresh; now != 0 && (before == 0 || now < before) {
			out = append(out, i)
		}
	}
	return out
}

// recovery returns when the first retransmission left, and when the data outstanding then was acknowledged.
func (r *recording) recovery() (from, to time.Duration, err error) {
	var end uint32
	for _, p := range r.packets {
		switch {
		case !p.received && from == 0 && p.again:
			from = p.at
		case !p.received && from == 0:
			end = max(end, p.seq+uint32(p.length))
		case p.received && from != 0 && int32(p.ack-end) >= 0:
			return from, p.at, nil
		}
	}
	return 0, 0, fmt.Errorf("no recovery came to its end")
}
