package mutants

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/link/nested"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/conformance/internal/wire"
)

// layer is the link of a host with a fault in it.
type layer struct {
	nested.Endpoint
	r *rig
	// out see each segment that the stack sends and in each that arrives. They
	// may change it, and report whether it goes on.
	out, in []func(p *wire.Packet) bool
	// spoil is how the packet at hand is encoded.
	spoil wire.Spoil
	// raw, if not nil, changes the octets of the packet at hand.
	raw func(b []byte)

	// What the fault may need to know of the stack's connection.
	next   uint32       // behind the highest octet that was sent
	isn    uint32       // of the stack
	peer   uint32       // the initial sequence number of the peer
	known  bool         // peer means something
	latest *wire.Packet // the last segment that the stack sent
	acked  uint32       // the last acknowledgment number that arrived
}

func newLayer(r *rig, child stack.LinkEndpoint) *layer {
	l := &layer{r: r}
	l.Init(child, l)
	return l
}

// onOut and onIn add what sees segments, behind what there is.
func (l *layer) onOut(f func(p *wire.Packet) bool) { l.out = append(l.out, f) }
func (l *layer) onIn(f func(p *wire.Packet) bool)  { l.in = append(l.in, f) }

// pass shows a segment to all until one stops it.
func pass(fs []func(p *wire.Packet) bool, p *wire.Packet) bool {
	for _, f := range fs {
		if !f(p) {
			return false
		}
	}
	return true
}

// clock is the clock of the rig.
func (l *layer) clock() tcpip.Clock { return l.r.clock }

// octets returns the packet as it stands.
func octets(pkt *stack.PacketBuffer) []byte {
	buf := pkt.ToBuffer()
	defer buf.Release()
	return buf.Flatten()
}

// WritePackets implements stack.LinkEndpoint.
func (l *layer) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	for _, pkt := range pkts.AsSlice() {
		p, err := wire.Decode(octets(pkt))
		if err != nil || p.TCP == nil {
			l.write(octets(pkt))
			continue
		}
		l.spoil, l.raw = wire.Spoil{}, nil
		l.note(p)
		if pass(l.out, p) {
			l.send(p)
		}
		l.after(p)
	}
	return pkts.Len(), nil
}

// note keeps what faults need to know, before they see a segment.
func (l *layer) note(p *wire.Packet) {
	if p.TCP.Flags&wire.SYN != 0 {
		l.isn, l.next = p.TCP.Seq, p.TCP.Seq
	}
	l.latest = clone(p)
}

// after keeps where the stream ends. The fault may have changed the segment.
func (l *layer) after(p *wire.Packet) {
	if end := p.TCP.Seq + p.TCP.Len(); int32(end-l.next) > 0 {
		l.next = end
	}
}

// again reports whether a segment has data that was sent before.
func (l *layer) again(p *wire.Packet) bool {
	return p.TCP.Flags&wire.SYN == 0 && p.TCP.Len() > 0 && int32(p.TCP.Seq-l.next) < 0
}

// send sends a segment now, seen by no fault.
func (l *layer) send(p *wire.Packet) {
	b := p.Encode(l.spoil)
	if l.raw != nil {
		l.raw(b)
	}
	l.write(b)
}

// later sends a segment after some time, unless keep says that it is of no use
// any more.
func (l *layer) later(d time.Duration, p *wire.Packet, keep func() bool) {
	q := clone(p)
	l.r.clock.AfterFunc(d, func() {
		if keep == nil || keep() {
			l.spoil, l.raw = wire.Spoil{}, nil
			l.send(l.afresh(q))
		}
	})
}

// afresh gives a copy of an old segment what the stack would send by now:
// acknowledgment number, window and timestamps.
func (l *layer) afresh(p *wire.Packet) *wire.Packet {
	p.TCP.Ack, p.TCP.Window = l.latest.TCP.Ack, l.latest.TCP.Window
	now, ok := option(l.latest, 8)
	if then, had := option(p, 8); ok && had {
		copy(then, now)
	}
	return p
}

// clone copies a segment.
func clone(p *wire.Packet) *wire.Packet {
	q, t := *p, *p.TCP
	t.Options = append([]byte(nil), t.Options...)
	t.Payload = append([]byte(nil), t.Payload...)
	t.DataOffset = 0
	q.TCP = &t
	return &q
}

// write sends octets.
func (l *layer) write(b []byte) {
	var list stack.PacketBufferList
	list.PushBack(bufferOf(b))
	l.Endpoint.WritePackets(list)
	list.DecRef()
}

// DeliverNetworkPacket implements stack.NetworkDispatcher.
func (l *layer) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	p, err := wire.Decode(octets(pkt))
	if err != nil || p.TCP == nil {
		l.Endpoint.DeliverNetworkPacket(proto, pkt)
		return
	}
	if p.TCP.Flags&wire.SYN != 0 {
		l.peer, l.known = p.TCP.Seq, true
	}
	if p.TCP.Flags&wire.ACK != 0 {
		l.acked = p.TCP.Ack
	}
	p.TCP.DataOffset = 0
	if !pass(l.in, p) {
		return
	}
	up := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(p.Encode(wire.Spoil{}))})
	defer up.DecRef()
	l.Endpoint.DeliverNetworkPacket(proto, up)
}

// option returns the data of an option.
func option(p *wire.Packet, kind byte) ([]byte, bool) {
	at, n := find(p.TCP.Options, kind)
	if n == 0 {
		return nil, false
	}
	return p.TCP.Options[at+2 : at+n], true
}

// find returns where an option begins and how long it is, or 0.
func find(b []byte, kind byte) (at, n int) {
	for i := 0; i < len(b); {
		switch {
		case b[i] == 0:
			return 0, 0
		case b[i] == 1:
			i++
			continue
		case i+1 >= len(b) || b[i+1] < 2 || i+int(b[i+1]) > len(b):
			return 0, 0
		case b[i] == kind:
			return i, int(b[i+1])
		}
		i += int(b[i+1])
	}
	return 0, 0
}

// strip takes an option out, and reports whether there was one.
func strip(p *wire.Packet, kind byte) bool {
	at, n := find(p.TCP.Options, kind)
	for i := at; i < at+n; i++ {
		p.TCP.Options[i] = 1
	}
	return n > 0
}

// add appends an option with its padding.
func add(p *wire.Packet, octets ...byte) {
	for len(octets)%4 != 0 {
		octets = append([]byte{1}, octets...)
	}
	p.TCP.Options = append(p.TCP.Options, octets...)
	p.TCP.DataOffset = 0
}

// addSACK appends a SACK block.
func addSACK(p *wire.Packet, left, right uint32) {
	b := []byte{5, 10}
	b = binary.BigEndian.AppendUint32(b, left)
	add(p, binary.BigEndian.AppendUint32(b, right)...)
}
