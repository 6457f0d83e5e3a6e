package target

import (
	"encoding/binary"
	"errors"
	"sync"

	"github.com/plumbline/plumbline/conformance/target/vclock"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is the interface of a netstack target: a [stack.LinkEndpoint] that
// keeps what is written, with its virtual time, and delivers what is injected
// inline. It carries IP packets without a link header, has no addresses to
// resolve, and leaves checksums and segmentation to the stack, so that the
// packets seen are the packets that a wire would see.
type link struct {
	clock *vclock.Clock

	mu         sync.Mutex
	mtu        uint32
	dispatcher stack.NetworkDispatcher
	out        []Packet
}

var _ stack.LinkEndpoint = (*link)(nil)

// errDetached is the error of an injection after the interface was removed.
var errDetached = errors.New("the interface is detached from its stack")

// MTU implements [stack.LinkEndpoint].
func (l *link) MTU() uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.mtu
}

// SetMTU implements [stack.LinkEndpoint].
func (l *link) SetMTU(mtu uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mtu = mtu
}

// Attach implements [stack.LinkEndpoint].
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.dispatcher = d
}

// IsAttached implements [stack.LinkEndpoint].
func (l *link) IsAttached() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.dispatcher != nil
}

// WritePackets implements [stack.LinkEndpoint].
func (l *link) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	at := l.clock.Elapsed()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, pkt := range pkts.AsSlice() {
		view := pkt.ToView()
		data := append([]byte(nil), view.AsSlice()...)
		view.Release()
		zeroIdentification(data)
		l.out = append(l.out, Packet{At: at, Data: data})
	}
	return pkts.Len(), nil
}

// zeroIdentification removes the IPv4 identification, which netstack draws
// from a source that cannot be seeded, so that runs compare equal. RFC 6864
// gives the field no meaning in packets that are not fragmented.
func zeroIdentification(data []byte) {
	if header.IPVersion(data) != header.IPv4Version || len(data) < header.IPv4MinimumSize {
		return
	}
	ip := header.IPv4(data)
	if ip.More() || ip.FragmentOffset() != 0 || ip.ID() == 0 {
		return
	}
	sum := checksum.Combine(ip.Checksum(), ip.ID()) // incremental update, RFC 1624
	binary.BigEndian.PutUint16(data[4:], 0)
	ip.SetChecksum(sum)
}

// inject delivers a packet to the stack.
func (l *link) inject(data []byte) error {
	l.mu.Lock()
	d := l.dispatcher
	l.mu.Unlock()
	if d == nil {
		return errDetached
	}
	var proto tcpip.NetworkProtocolNumber
	switch header.IPVersion(data) {
	case header.IPv4Version:
		proto = header.IPv4ProtocolNumber
	case header.IPv6Version:
		proto = header.IPv6ProtocolNumber
	default:
		return errors.New("the packet is neither IPv4 nor IPv6")
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		Payload: buffer.MakeWithData(data),
	})
	d.DeliverNetworkPacket(proto, pkt)
	pkt.DecRef()
	return nil
}

// drain returns and forgets what was written.
func (l *link) drain() []Packet {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := l.out
	l.out = nil
	return out
}

// pending reports whether drain would return something.
func (l *link) pending() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.out) > 0
}

// The rest of [stack.LinkEndpoint] has nothing to do on a link without
// headers, addresses, goroutines or devices.

// MaxHeaderLength implements [stack.LinkEndpoint].
func (*link) MaxHeaderLength() uint16 { return 0 }

// LinkAddress implements [stack.LinkEndpoint].
func (*link) LinkAddress() tcpip.LinkAddress { return "" }

// SetLinkAddress implements [stack.LinkEndpoint].
func (*link) SetLinkAddress(tcpip.LinkAddress) {}

// Capabilities implements [stack.LinkEndpoint].
func (*link) Capabilities() stack.LinkEndpointCapabilities { return 0 }

// Wait implements [stack.LinkEndpoint].
func (*link) Wait() {}

// ARPHardwareType implements [stack.LinkEndpoint].
func (*link) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// AddHeader implements [stack.LinkEndpoint].
func (*link) AddHeader(*stack.PacketBuffer) {}

// ParseHeader implements [stack.LinkEndpoint].
func (*link) ParseHeader(*stack.PacketBuffer) bool { return true }

// Close implements [stack.LinkEndpoint].
func (*link) Close() {}

// SetOnCloseAction implements [stack.LinkEndpoint].
func (*link) SetOnCloseAction(func()) {}
