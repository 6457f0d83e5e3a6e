package mutants

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// Mutant is a TCP with a fault.
type Mutant struct {
	// Name says what it does, in lower case with hyphens.
	Name string
	// RFC2525 is the section of RFC 2525 that describes the fault, or "".
	RFC2525 string
	// Title is the fault in a few words; for those of RFC 2525, the section's
	// own.
	Title string
	// Rule is the rule of the oracle that the fault breaks.
	Rule string

	// scenario is what happens on the connection.
	scenario scenario
	// fault arms it. Nil leaves the TCP as it is.
	fault func(m, peer *host)
	// set are options of the mutant's socket.
	set []func(tcpip.Endpoint) tcpip.Error
}

// scenario is what both applications and the path do.
type scenario struct {
	// passive says that the mutant listens and the peer connects.
	passive bool
	// sends and receives are how many octets the mutant sends and receives.
	sends, receives int
	// mss is the MSS that the path's MTU gives; 0 means 1460.
	mss int
	// delay is that of one direction, 0 means 50 ms; rate is the path's, 0 means
	// 40 Mbit/s.
	delay time.Duration
	rate  emulated.BitRate
	// last is for how long it goes on; 0 means a minute.
	last time.Duration
	// deaf applications do not read, and open ones do not close.
	deaf, peerDeaf bool
	open           bool
	// keepAlive makes the mutant's application ask for keep-alives.
	keepAlive bool
	// drive, if not nil, does more, once everything is set up.
	drive func(r *rig, mutant, peer *app)
	// noSACK makes the peer one without SACK and timestamps.
	noOptions bool
}

// Run runs a mutant and returns what the oracle says. Without fault it runs tcpx
// as it is in the same scenario.
func (m *Mutant) Run(fault bool) (*oracle.Report, error) {
	sc := m.scenario
	mtu := uint32(1500)
	if sc.mss > 0 {
		mtu = uint32(sc.mss + 40)
	}
	link := emulated.Link{Delay: 50 * time.Millisecond, Rate: 40 * emulated.Mbps, Queue: emulated.FIFO{Bytes: 4 << 20}}
	if sc.delay > 0 {
		link.Delay = sc.delay
	}
	if sc.rate > 0 {
		link.Rate = sc.rate
	}
	r, err := newRig(link, mtu, 1)
	if err != nil {
		return nil, err
	}
	defer r.close()
	mutant, peer := r.hosts[0], r.hosts[1]
	if sc.noOptions {
		peer.layer.onIn(withoutOptions)
		peer.layer.onOut(withoutOptions)
	}
	set := []func(tcpip.Endpoint) tcpip.Error{congestionControl("reno")}
	if sc.keepAlive {
		set = append(set, func(ep tcpip.Endpoint) tcpip.Error { ep.SocketOptions().SetKeepAlive(true); return nil })
	}
	if fault {
		if m.fault != nil {
			m.fault(mutant, peer)
		}
		set = append(set, m.set...)
	}
	a := &app{sends: sc.sends, deaf: sc.deaf, closes: !sc.open}
	b := &app{sends: sc.receives, deaf: sc.peerDeaf, closes: !sc.open}
	if sc.passive {
		r.listen(mutant, a, set...)
		r.connect(peer, mutant, b)
	} else {
		r.listen(peer, b)
		r.connect(mutant, peer, a, set...)
	}
	if sc.drive != nil {
		sc.drive(r, a, b)
	}
	last := sc.last
	if last == 0 {
		last = time.Minute
	}
	r.run(last)
	return r.oracle.Report(), r.err
}

// withoutOptions leaves no option in a SYN but the MSS.
func withoutOptions(p *wire.Packet) bool {
	if p.TCP.Flags&wire.SYN != 0 {
		strip(p, 3)
		strip(p, 4)
		strip(p, 8)
	}
	return true
}

// All returns all mutants: the faults of RFC 2525 in its order, then those that
// break rules of the hard tier, then those of the soft tier.
func All() []Mutant {
	all := append([]Mutant{}, rfc2525...)
	all = append(all, hard...)
	return append(all, soft...)
}

// The options of the mutant's socket.

func congestionControl(name string) func(tcpip.Endpoint) tcpip.Error {
	return func(ep tcpip.Endpoint) tcpip.Error {
		cc := tcpip.CongestionControlOption(name)
		return ep.SetSockOpt(&cc)
	}
}

func maxRTO(d time.Duration) func(tcpip.Endpoint) tcpip.Error {
	return func(ep tcpip.Endpoint) tcpip.Error {
		v := tcpip.TCPMaxRTOOption(d)
		return ep.SetSockOpt(&v)
	}
}

func keepaliveIdle(d time.Duration) func(tcpip.Endpoint) tcpip.Error {
	return func(ep tcpip.Endpoint) tcpip.Error {
		v := tcpip.KeepaliveIdleOption(d)
		return ep.SetSockOpt(&v)
	}
}

func keepalives(count int, interval time.Duration) func(tcpip.Endpoint) tcpip.Error {
	return func(ep tcpip.Endpoint) tcpip.Error {
		v := tcpip.KeepaliveIntervalOption(interval)
		if err := ep.SetSockOpt(&v); err != nil {
			return err
		}
		return ep.SetSockOptInt(tcpip.KeepaliveCountOption, count)
	}
}

// What paths and peers do.

// unplug makes the peer vanish at a time.
func unplug(at time.Duration) func(r *rig, mutant, peer *app) {
	return func(r *rig, _, _ *app) {
		r.clock.AfterFunc(at, func() {
			r.hosts[1].layer.onIn(func(*wire.Packet) bool { return false })
			r.hosts[1].layer.onOut(func(*wire.Packet) bool { return false })
		})
	}
}

// lose makes the path lose data segments of the mutant behind the oracle: those
// whose number, from 1, lose says to be lost. Segments that are sent again have
// numbers of their own.
func lose(lost func(n int) bool) func(r *rig, mutant, peer *app) {
	return func(r *rig, _, _ *app) {
		n := 0
		r.hosts[1].layer.onIn(func(p *wire.Packet) bool {
			if len(p.TCP.Payload) == 0 {
				return true
			}
			n++
			return !lost(n)
		})
	}
}

// loseArriving is lose for what the peer sends, before the oracle.
func loseArriving(lost func(n int) bool) func(r *rig, mutant, peer *app) {
	return func(r *rig, _, _ *app) {
		n := 0
		r.hosts[1].layer.onOut(func(p *wire.Packet) bool {
			if len(p.TCP.Payload) == 0 {
				return true
			}
			n++
			return !lost(n)
		})
	}
}

// outage makes the path lose all data of the mutant behind the oracle for some
// time.
func outage(from, to time.Duration) func(r *rig, mutant, peer *app) {
	return func(r *rig, _, _ *app) {
		r.hosts[1].layer.onIn(func(p *wire.Packet) bool {
			now := r.clock.Elapsed()
			return len(p.TCP.Payload) == 0 || now < from || now > to
		})
	}
}

// hasty makes the mutant's application close at a time, whatever it has read.
func hasty(at time.Duration) func(r *rig, mutant, peer *app) {
	return func(r *rig, mutant, _ *app) {
		r.clock.AfterFunc(at, func() { mutant.hasty = true })
	}
}

// between is the numbers from a to b.
func between(a, b int) func(int) bool { return func(n int) bool { return n >= a && n <= b } }

// listens makes an application read from a time on.
func listens(who func(mutant, peer *app) *app, at time.Duration) func(r *rig, mutant, peer *app) {
	return func(r *rig, mutant, peer *app) {
		r.clock.AfterFunc(at, func() { who(mutant, peer).deaf = false })
	}
}

func thePeer(_, peer *app) *app { return peer }
