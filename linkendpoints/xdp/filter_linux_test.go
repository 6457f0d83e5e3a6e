//go:build amd64 || arm64

package xdp

import (
	"context"
	"encoding/binary"
	"net"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// toPort makes a packet to a port.
func toPort(number uint32, proto tcpip.TransportProtocolNumber, port uint16) []byte {
	b := ipv4UDP(number, 60)
	b[9] = uint8(proto)
	binary.BigEndian.PutUint16(b[22:], port)
	return fixIPv4(b)
}

// fixIPv4 corrects the header checksum and leaves the other out.
func fixIPv4(b []byte) []byte {
	ip := header.IPv4(b)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	return b
}

// ipv6To makes an IPv6 packet to a port.
func ipv6To(proto tcpip.TransportProtocolNumber, port uint16) []byte {
	b := make([]byte, header.IPv6MinimumSize+20)
	header.IPv6(b).Encode(&header.IPv6Fields{
		PayloadLength: 20, TransportProtocol: proto, HopLimit: 64,
		SrcAddr: tcpip.AddrFromSlice(net.ParseIP("2001:db8::1")), DstAddr: tcpip.AddrFromSlice(net.ParseIP("2001:db8::2")),
	})
	binary.BigEndian.PutUint16(b[header.IPv6MinimumSize+2:], port)
	return b
}

// The program leaves to the kernel what the filter says, and nothing else: each
// frame shows up on either a packet socket on the device or the endpoint.
func TestFilter(t *testing.T) {
	const (
		v4, v6, arp = header.IPv4ProtocolNumber, header.IPv6ProtocolNumber, header.ARPProtocolNumber
		tcp, udp    = header.TCPProtocolNumber, header.UDPProtocolNumber
		other       = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\x77")
		group       = tcpip.LinkAddress("\x01\x00\x5e\x00\x00\x01")
	)
	ports := Filter{TCPPorts: []uint16{22, 2222}, UDPPorts: []uint16{53}}
	options := slices.Concat(toPort(1, tcp, 22)[:20], make([]byte, 8), toPort(1, tcp, 22)[20:])
	options[0] = 0x47
	binary.BigEndian.PutUint16(options[2:], uint16(len(options)))
	fragment := toPort(1, tcp, 22)
	fragment[6] = 0x20
	for _, tt := range []struct {
		name   string
		filter Filter
		dst    tcpip.LinkAddress // ours if empty
		proto  tcpip.NetworkProtocolNumber
		packet []byte
		kernel bool
	}{
		{"nothing filtered", Filter{}, "", v4, toPort(1, tcp, 22), false},
		{"for another host, nothing filtered", Filter{}, other, v4, toPort(1, udp, 9), false},
		{"for another host", Filter{OtherHosts: true}, other, v4, toPort(1, udp, 9), true},
		{"for us", Filter{OtherHosts: true}, "", v4, toPort(1, udp, 9), false},
		{"broadcast", Filter{OtherHosts: true}, header.EthernetBroadcastAddress, v4, toPort(1, udp, 9), false},
		{"multicast", Filter{OtherHosts: true}, group, v4, toPort(1, udp, 9), false},
		{"ARP", Filter{EtherTypes: []tcpip.NetworkProtocolNumber{v6, arp}}, "", arp, make([]byte, 46), true},
		{"not ARP", Filter{EtherTypes: []tcpip.NetworkProtocolNumber{v6, arp}}, "", v4, toPort(1, udp, 9), false},
		{"SSH", ports, "", v4, toPort(1, tcp, 22), true},
		{"SSH on another port", ports, "", v4, toPort(1, tcp, 2222), true},
		{"HTTP", ports, "", v4, toPort(1, tcp, 80), false},
		{"DNS", ports, "", v4, toPort(1, udp, 53), true},
		{"UDP to the port of SSH", ports, "", v4, toPort(1, udp, 22), false},
		{"TCP to the port of DNS", ports, "", v4, toPort(1, tcp, 53), false},
		{"another protocol", ports, "", v4, toPort(1, 132, 22), false},
		{"with IPv4 options", ports, "", v4, fixIPv4(options), true},
		{"a fragment", ports, "", v4, fixIPv4(fragment), false},
		{"SSH over IPv6", ports, "", v6, ipv6To(tcp, 22), true},
		{"DNS over IPv6", ports, "", v6, ipv6To(udp, 53), true},
		{"HTTP over IPv6", ports, "", v6, ipv6To(tcp, 80), false},
		{"too short for a port", ports, "", v4, toPort(1, tcp, 22)[:22], false},
		{"too short for IPv4", ports, "", v4, toPort(1, tcp, 22)[:10], false},
		{"too short for IPv6", ports, "", v6, ipv6To(tcp, 22)[:39], false},
		{"both, another host", Filter{OtherHosts: true, TCPPorts: []uint16{22}}, other, v4, toPort(1, tcp, 80), true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := newCable(t, 1500, 1)
			e := c.open(t, Options{Filter: tt.filter, Mode: Copy})
			e.Attach(newCounter())
			kernel := newPacketSocketOn(t, c, c.Ours)
			peer := newPacketSocket(t, c)
			dst := tt.dst
			if dst == "" {
				dst = e.LinkAddress()
			}
			frame := ethernet(dst, tt.proto, tt.packet)
			if err := peer.Send(frame); err != nil {
				t.Fatal(err)
			}
			kernelHas := kernel.has(t, e, frame)
			if kernelHas != tt.kernel {
				t.Errorf("the kernel has the frame: %t, want %t", kernelHas, tt.kernel)
			}
		})
	}
}

// has waits until a frame is either with the kernel, on whose packet socket it
// shows up, or with the endpoint, which counts it.
func (p *packetSocket) has(t testing.TB, e *Endpoint, frame []byte) bool {
	t.Helper()
	b := make([]byte, 2048)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for ctx.Err() == nil {
		if n, err := unix.Read(p.FD, b); err == nil && strings.HasPrefix(string(b[:n]), string(frame)) {
			return true
		}
		if s := e.Stats(); s.RxFrames+s.RxDropped() > 0 {
			return false
		}
		p.Poll(unix.POLLIN)
	}
	t.Fatal("the frame is nowhere")
	return false
}

// Programs of every size that the options allow pass the kernel's verifier.
func TestLargestFilter(t *testing.T) {
	c := newCable(t, 1500, 1)
	f := Filter{OtherHosts: true}
	for i := range maxFilterEntries {
		f.EtherTypes = append(f.EtherTypes, tcpip.NetworkProtocolNumber(0x9000+i))
		f.TCPPorts = append(f.TCPPorts, uint16(i))
		f.UDPPorts = append(f.UDPPorts, uint16(1000+i))
	}
	for _, f := range []Filter{f, {UDPPorts: f.UDPPorts}, {EtherTypes: f.EtherTypes}} {
		e, err := c.tryOpen(Options{Filter: f})
		if err != nil {
			t.Fatal(err)
		}
		if e.Mode() != Copy {
			t.Errorf("mode %v, want native", e.Mode())
		}
		e.Close()
	}
}
