package runner_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// fakeISN is the initial sequence number of a fake. It makes numbers wrap.
const fakeISN = 0xffff_fff0

// sending is a segment that a fake sends at a given time, whatever it gets.
type sending struct {
	at  time.Duration
	seg wire.TCP
}

// fake is a target without a TCP in it: it sends what the test says at the
// times that the test says, accepts every call, and remembers what arrives.
type fake struct {
	now      time.Duration
	sends    []sending
	due      []target.Packet
	injected [][]byte
	settings map[string]string
	written  int
	port     uint16
	// config is what the fake was opened with, options what was set on sockets.
	config  target.Config
	options []target.SetOption
	// ecn lets scripts expect ECN.
	ecn bool
	// state is what Info tells.
	state int64
}

// kind makes a kind of target of one fake.
func (f *fake) kind() target.Kind {
	return target.Kind{Name: "fake", Capabilities: target.Capabilities{ECN: f.ecn}, Open: func(c target.Config) (target.Target, error) {
		f.config = c
		return f, nil
	}}
}

func (f *fake) Now() time.Duration { return f.now }

func (f *fake) Configure(name, value string) error {
	if name == "net.ipv4.tcp_unknown" {
		return target.Unsupportedf("sysctl %s", name)
	}
	if f.settings == nil {
		f.settings = make(map[string]string)
	}
	f.settings[name] = value
	return nil
}

// returned is a call that has returned.
type returned target.Result

func (r returned) Result() (target.Result, bool) { return target.Result(r), true }

func (f *fake) Syscall(c target.Call) (target.Pending, error) {
	r := target.Result{At: f.now}
	switch c := c.(type) {
	case target.Socket:
		r.Value = 30
	case target.Accept:
		r.Value, r.Addr = 31, netip.AddrPortFrom(target.DefaultAddrs().Remote4, f.port)
	case target.Write:
		r.Value = int64(len(c.Data))
		f.written += len(c.Data)
	case target.Read:
		r.Data = make([]byte, c.Max)
		r.Value = int64(c.Max)
	case target.SetOption:
		f.options = append(f.options, c)
	case target.Poll:
		return nil, target.Unsupportedf("poll")
	}
	return returned(r), nil
}

func (f *fake) Inject(p []byte) error {
	f.injected = append(f.injected, p)
	if d, err := wire.Decode(p); err == nil && d.TCP != nil {
		f.port = d.TCP.SrcPort
	}
	f.release()
	return nil
}

// release sends what is due.
func (f *fake) release() {
	for len(f.sends) > 0 && f.sends[0].at <= f.now {
		s := f.sends[0]
		f.sends = f.sends[1:]
		seg := s.seg
		seg.SrcPort, seg.DstPort = 8080, f.port
		p := wire.Packet{
			IP:  wire.IP{Src: target.DefaultAddrs().Local4, Dst: target.DefaultAddrs().Remote4, TTL: 64},
			TCP: &seg,
		}
		f.due = append(f.due, target.Packet{At: s.at, Data: p.Encode(wire.Spoil{Checksum: seg.Reserved == 7})})
	}
}

func (f *fake) Drain() []target.Packet {
	due := f.due
	f.due = nil
	return due
}

func (f *fake) RunUntil(t time.Duration) time.Duration {
	if len(f.sends) > 0 && f.sends[0].at <= t {
		f.now = max(f.now, f.sends[0].at)
		f.release()
		return f.now
	}
	f.now = max(f.now, t)
	return f.now
}

func (f *fake) Settle() {}

func (f *fake) Info(target.FD) (target.Info, error) {
	return target.Info{"snd_cwnd": 10, "state": f.state}, nil
}

func (f *fake) Close() {}

// preamble is a handshake, over at 0.1 seconds, with descriptor 4 accepted.
const preamble = `
0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 8) = 0
+0 < S 0:0(0) win 1000 <mss 1000>
+0 > S. 0:0(0) ack 1 <mss 1460>
+.1 < . 1:1(0) ack 1 win 1000
+0 accept(3, ..., ...) = 4
`

// synACK answers the SYN of preamble.
var synACK = sending{seg: wire.TCP{Seq: fakeISN, Ack: 1, Flags: wire.SYN | wire.ACK, Window: 5000, Options: []byte{2, 4, 5, 180}}}

// data is a segment with n octets of the stream that the application writes,
// the first at offset i, sent at 0.1 seconds.
func data(i, n int, flags uint16) sending {
	b := make([]byte, n)
	for k := range b {
		b[k] = runner.WrittenOctet(uint32(i + k))
	}
	return sending{100 * time.Millisecond, wire.TCP{Seq: fakeISN + 1 + uint32(i), Ack: 1, Flags: wire.ACK | flags, Window: 5000, Payload: b}}
}

// parse parses a script that the test holds.
func parse(t *testing.T, src string) *script.Script {
	t.Helper()
	s, err := script.Parse("test.pkt", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// runFake runs a script on a fake over IPv4.
func runFake(t *testing.T, f *fake, src string, opt runner.Options) *runner.Result {
	t.Helper()
	return runner.Run(parse(t, src), f.kind(), 4, opt)
}
