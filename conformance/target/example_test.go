package target_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// closedHost is the smallest stack there is: all of its ports are closed. As an
// adapter it shows all that one has to do. A stack with sockets answers more
// calls than none; one that lives elsewhere, behind a TUN device or a pipe,
// writes packets there in Inject and reads them in RunUntil.
type closedHost struct {
	now time.Duration
	out []target.Packet
}

// Time moves only in RunUntil. A stack with timers lets them fire here, one
// after the other, and stops as soon as there is a packet to tell of.
func (h *closedHost) Now() time.Duration { return h.now }
func (h *closedHost) RunUntil(t time.Duration) time.Duration {
	if len(h.out) == 0 {
		h.now = max(h.now, t)
	}
	return h.now
}
func (h *closedHost) Settle() {}

// What the stack cannot do it says: scripts that need it are UNSUPPORTED.
func (h *closedHost) Configure(name, _ string) error {
	return target.Unsupportedf("the setting %s", name)
}
func (h *closedHost) Syscall(c target.Call) (target.Pending, error) {
	return nil, target.Unsupportedf("the call %v", c)
}
func (h *closedHost) Info(target.FD) (target.Info, error) {
	return nil, target.Unsupportedf("TCP_INFO")
}

// Inject takes a packet that arrives. This stack answers with the RST of
// RFC 9293 section 3.10.7.1.
func (h *closedHost) Inject(p []byte) error {
	const headers, fin, syn, rst, ack = 40, 1, 2, 4, 16
	if len(p) < headers || p[0] != 0x45 || p[33]&rst != 0 {
		return nil
	}
	out := make([]byte, headers)
	copy(out, []byte{0x45, 0, 0, headers, 0, 0, 0x40, 0, 64, 6})
	copy(out[12:16], p[16:20])
	copy(out[16:20], p[12:16])
	copy(out[20:22], p[22:24])
	copy(out[22:24], p[20:22])
	out[32] = 5 << 4
	if out[33] = rst; p[33]&ack != 0 {
		copy(out[24:28], p[28:32])
	} else {
		n := uint32(len(p) - 20 - int(p[32]>>4)*4)
		n += uint32(p[33]&fin) + uint32(p[33]&syn)/syn
		binary.BigEndian.PutUint32(out[28:], binary.BigEndian.Uint32(p[24:])+n)
		out[33] |= ack
	}
	binary.BigEndian.PutUint16(out[10:], sum(out[:20], 0))
	binary.BigEndian.PutUint16(out[36:], sum(out[12:], 6+20))
	h.out = append(h.out, target.Packet{At: h.now, Data: out})
	return nil
}

// Drain hands over what was sent.
func (h *closedHost) Drain() []target.Packet {
	out := h.out
	h.out = nil
	return out
}
func (h *closedHost) Close() {}

// sum is the checksum of the Internet.
func sum(b []byte, s uint32) uint16 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return ^uint16(s)
}

// A stack of one's own, judged by a script.
func Example() {
	mine := target.Kind{
		Name: "closed", Description: "a host whose ports are closed",
		Open: func(cfg target.Config) (target.Target, error) { return &closedHost{}, nil },
	}
	for name, src := range map[string]string{
		"syn.pkt":    "0 < S 0:0(0) win 1000 <mss 1000>\n+0 > R. 0:0(0) ack 1\n",
		"listen.pkt": "0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n",
	} {
		s, err := script.Parse(name, []byte(src))
		if err != nil {
			panic(err)
		}
		res := runner.Run(s, mine, 4, runner.Options{})
		fmt.Println(name, res.Verdict)
	}
	fmt.Println(target.DefaultAddrs().Local4 == netip.MustParseAddr("192.168.0.1"))
	// Unordered output:
	// syn.pkt PASS
	// listen.pkt UNSUPPORTED
	// true
}
