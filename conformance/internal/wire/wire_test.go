package wire_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/plumbline/plumbline/conformance/internal/wire"
)

var (
	v4 = wire.IP{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.168.0.1"), TTL: 64, TOS: 0x2e}
	v6 = wire.IP{Src: netip.MustParseAddr("2001:db8::1"), Dst: netip.MustParseAddr("fd3d::1"), TTL: 64, FlowLabel: 0xabcde}
)

// with returns p with the IP header ip and the protocol number proto in it.
func with(ip wire.IP, proto uint8, p wire.Packet) wire.Packet {
	p.IP = ip
	p.IP.Protocol = proto
	return p
}

func TestEncodeDecode(t *testing.T) {
	segment := &wire.TCP{
		SrcPort: 8080, DstPort: 49152, Seq: 0xfffffff0, Ack: 7, Flags: wire.SYN | wire.ACK | wire.AE, Reserved: 5,
		Window: 65535, Urgent: 3, Options: []byte{2, 4, 5, 180, 1, 1, 1, 0}, Payload: []byte("odd"), DataOffset: 7,
	}
	icmp := &wire.ICMP{Type: 3, Code: 4, Rest: 1400, Body: []byte{1, 2, 3}}
	udp := &wire.UDP{SrcPort: 1, DstPort: 2, Payload: []byte{9}}
	for name, p := range map[string]wire.Packet{
		"TCP over IPv4":  with(v4, wire.ProtoTCP, wire.Packet{TCP: segment}),
		"TCP over IPv6":  with(v6, wire.ProtoTCP, wire.Packet{TCP: segment}),
		"UDP over IPv4":  with(v4, wire.ProtoUDP, wire.Packet{UDP: udp}),
		"UDP over IPv6":  with(v6, wire.ProtoUDP, wire.Packet{UDP: udp}),
		"ICMP":           with(v4, wire.ProtoICMP, wire.Packet{ICMP: icmp}),
		"ICMPv6":         with(v6, wire.ProtoICMPv6, wire.Packet{ICMP: icmp}),
		"other protocol": with(v4, 89, wire.Packet{}),
	} {
		got, err := wire.Decode(p.Encode(wire.Spoil{}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(&p, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("%s changed on the wire (-want +got):\n%s", name, diff)
		}
	}
}

func TestSpoiledChecksumIsAFault(t *testing.T) {
	p := with(v4, wire.ProtoTCP, wire.Packet{TCP: &wire.TCP{Flags: wire.ACK}})
	got, err := wire.Decode(p.Encode(wire.Spoil{Checksum: true}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"bad TCP checksum"}; !cmp.Equal(got.Faults, want) {
		t.Errorf("Faults = %v, want %v", got.Faults, want)
	}
}

func TestWrongDataOffsetIsAFault(t *testing.T) {
	p := with(v6, wire.ProtoTCP, wire.Packet{TCP: &wire.TCP{Flags: wire.ACK, DataOffset: 15}})
	got, err := wire.Decode(p.Encode(wire.Spoil{}))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Faults) != 1 || len(got.TCP.Options) != 0 {
		t.Errorf("Faults = %v, options %v; want one fault and no options", got.Faults, got.TCP.Options)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	for _, ip := range []wire.IP{v4, v6} {
		p := with(ip, wire.ProtoTCP, wire.Packet{TCP: &wire.TCP{Options: []byte{3, 3, 8, 0}, Payload: []byte("x")}})
		f.Add(p.Encode(wire.Spoil{}))
		q := with(ip, 0, wire.Packet{ICMP: &wire.ICMP{Body: p.Encode(wire.Spoil{})}})
		f.Add(q.Encode(wire.Spoil{}))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := wire.Decode(data)
		if err != nil {
			return
		}
		if p.TCP != nil && len(p.TCP.Payload)+len(p.TCP.Options)+20 > len(data) {
			t.Errorf("a segment larger than its packet: %+v", p.TCP)
		}
	})
}
