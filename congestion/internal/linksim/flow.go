package linksim

import (
	"math/rand/v2"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

const (
	lossThreshold = 3 // later transmissions delivered before a packet is taken for lost
	minRTO        = 200 * time.Millisecond
	firstRTO      = time.Second
)

// FlowConfig describes a flow.
type FlowConfig struct {
	// Controller is the algorithm; the simulator initialises it.
	Controller congestion.Controller
	// RTT is the round-trip propagation time.
	RTT time.Duration
	// MSS is the size of all packets in bytes, 1000 if 0.
	MSS uint32
	// InitialWindow is in bytes, ten segments if 0. Ssthresh is the initial threshold, 0 for unlimited.
	InitialWindow, Ssthresh uint64
	// Start is when the flow begins to send.
	Start Time
	// Seed seeds the controller's randomness.
	Seed uint64
	// Drop, if set, reports whether the network loses the n-th transmission (from 0).
	Drop func(n uint64) bool
	// Offered, if set, returns the bytes that the application has written by now, and the instant at which it writes next (0: never again). Without it
	// there is always something to send.
	Offered func(now Time) (total uint64, next Time)
	// AckEvery is how many packets the receiver acknowledges at once, 1 if 0; it never delays the last of a flight.
	AckEvery int
	// Pace, if not 0, paces an algorithm that sets no rate at so many times cwnd/SRTT.
	Pace float64
	// OnAck, if set, is called after the controller saw an ACK.
	OnAck func(ev *congestion.AckEvent)
	// OnSignal, if set, is called before the controller sees a signal.
	OnSignal func(ev *congestion.SignalEvent)
}

// Flow is one sender and its receiver.
type Flow struct {
	// Delivered, Lost and Sent are bytes; RTOs and Recoveries count episodes.
	Delivered, Lost, Sent uint64
	RTOs, Recoveries      int

	sim     *Sim
	cfg     FlowConfig
	mss     uint64
	ctl     congestion.Controller
	sampler congestion.Sampler
	pacer   congestion.Pacer
	ack     congestion.AckEvent

	pkts       []packet // transmissions not yet settled, from number base on
	base, next uint64
	maxAcked   uint64 // 1 + the latest transmission delivered
	inFlight   uint64
	resend     uint64 // lost bytes that wait for retransmission
	written    uint64 // bytes of the application sent for the first time

	inRecovery, inLoss bool
	recoveryEnd        uint64 // the episode ends when a transmission from this number on is delivered
	limited            bool   // the window limited sending ...
	limitedAt          Time   // ... last at this instant

	srtt, rttvar, minRTT time.Duration
	lastSent             Time
	everSent             bool
	rtoAt                Time
	rtoArmed             bool
	rtoScheduled         bool
	backoff              uint
	paceGen              uint64
	pacePending          Time
	wakeAt               Time
}

type packet struct {
	state       congestion.PacketState
	acked, lost bool
	arrived     bool // at the receiver, which may hold the acknowledgment back
}

// Add adds a flow and returns it.
func (s *Sim) Add(cfg FlowConfig) *Flow {
	if cfg.MSS == 0 {
		cfg.MSS = 1000
	}
	mss := uint64(cfg.MSS)
	if cfg.InitialWindow == 0 {
		cfg.InitialWindow = 10 * mss
	}
	f := &Flow{sim: s, cfg: cfg, mss: mss, ctl: cfg.Controller, pacePending: -1, wakeAt: -1}
	f.ctl.Init(congestion.Config{
		MSS:           cfg.MSS,
		InitialWindow: cfg.InitialWindow,
		Ssthresh:      cfg.Ssthresh,
		Now:           cfg.Start,
		Rand:          rand.New(rand.NewPCG(cfg.Seed, uint64(len(s.flows)))),
	})
	s.flows = append(s.flows, f)
	s.At(cfg.Start, f.send)
	return f
}

// Cwnd returns the controller's window in bytes.
func (f *Flow) Cwnd() uint64 { return f.ctl.Control().Cwnd }

// InFlight returns the bytes in flight.
func (f *Flow) InFlight() uint64 { return f.inFlight }

// Written returns the bytes of the application that were sent at least once.
func (f *Flow) Written() uint64 { return f.written }

// Poke makes the flow look for something to send, after Offered has changed its mind.
func (f *Flow) Poke() { f.send() }

// MinRTT returns the smallest round-trip time seen, 0 without any.
func (f *Flow) MinRTT() time.Duration { return f.minRTT }

// send sends what the window, the pacer and the application allow.
func (f *Flow) send() {
	for {
		size := f.available()
		if size == 0 {
			if f.resend == 0 && f.inFlight < f.ctl.Control().Cwnd {
				f.sampler.MarkAppLimited(f.inFlight)
			}
			return
		}
		if f.everSent && f.inFlight == 0 && f.sim.now-f.lastSent > f.rto() && !f.inLoss {
			f.ctl.OnIdleRestart(f.sim.now, f.sim.now-f.lastSent)
		}
		c := f.ctl.Control()
		if f.inFlight+size > c.Cwnd {
			f.limited, f.limitedAt = true, f.sim.now
			return
		}
		if rate := f.pacingRate(&c); rate != 0 {
			f.pacer.SetRate(rate)
			f.pacer.SetQuantum(max(c.SendQuantum, f.mss))
			if at := f.pacer.NextSend(f.sim.now); at > f.sim.now {
				f.schedulePacing(at)
				return
			}
		}
		f.transmit(size)
	}
}

func (f *Flow) pacingRate(c *congestion.Control) uint64 {
	if c.PacingRate == 0 && f.cfg.Pace != 0 && f.srtt != 0 {
		return uint64(f.cfg.Pace * float64(c.Cwnd) / f.srtt.Seconds())
	}
	return c.PacingRate
}

// available returns the size of the next packet, 0 if there is nothing to send.
func (f *Flow) available() uint64 {
	if f.resend > 0 {
		return min(f.mss, f.resend)
	}
	if f.cfg.Offered == nil {
		return f.mss
	}
	total, next := f.cfg.Offered(f.sim.now)
	if next > f.sim.now && next != f.wakeAt {
		f.wakeAt = next
		f.sim.At(next, func() {
			if f.wakeAt == f.sim.now {
				f.wakeAt = -1
			}
			f.send()
		})
	}
	return min(f.mss, total-min(total, f.written))
}

func (f *Flow) transmit(size uint64) {
	now := f.sim.now
	again := f.resend > 0
	if again {
		f.resend -= size
	} else {
		f.written += size
	}
	var p packet
	f.sampler.OnSent(&p.state, now, uint32(size), f.inFlight, false)
	f.pkts = append(f.pkts, p)
	f.inFlight += size
	f.Sent += size
	f.pacer.OnSent(now, size)
	f.ctl.OnSent(now, size, f.inFlight)
	f.lastSent, f.everSent = now, true
	tx := f.next
	f.next++
	if !f.rtoArmed {
		f.armRTO()
	}
	if f.cfg.Drop == nil || !f.cfg.Drop(tx) {
		f.sim.Link.enqueue(f, tx, size)
	}
}

func (f *Flow) schedulePacing(at Time) {
	if f.pacePending == at {
		return
	}
	f.paceGen++
	f.pacePending = at
	f.sim.schedule(event{at: at, kind: paceTimer, flow: f, tx: f.paceGen})
}

func (f *Flow) onPaceTimer(gen uint64) {
	if gen == f.paceGen {
		f.pacePending = -1
		f.send()
	}
}

// onAck handles the acknowledgment of transmission tx, and with AckEvery of those before it that the receiver held back.
func (f *Flow) onAck(tx uint64) {
	if tx < f.base {
		return
	}
	f.pkts[tx-f.base].arrived = true
	if n := uint64(f.cfg.AckEvery); n > 1 && tx%n != n-1 && tx+1 != f.next {
		return
	}
	now := f.sim.now
	prior := f.inFlight
	f.sampler.Begin(now)
	acked, rtt := f.deliver(tx)
	if acked == 0 {
		return
	}
	f.updateRTT(rtt)
	ending := (f.inRecovery || f.inLoss) && tx >= f.recoveryEnd
	lost, fresh := f.detectLosses()
	if fresh && (ending || !(f.inRecovery || f.inLoss)) {
		ending = false
		f.startRecovery(prior, lost)
	}
	f.backoff = 0
	f.armRTO()
	f.ack = congestion.AckEvent{
		Now: now, Sample: f.sampler.Finish(f.minRTT, f.inFlight),
		Acked: acked, CumAcked: acked, Lost: lost,
		PriorInFlight: prior, InFlight: f.inFlight,
		Delivered: f.sampler.Delivered(), TotalLost: f.sampler.Lost(),
		RTT: rtt, SRTT: f.srtt, MinRTT: f.minRTT,
		// At any time since the packet left: a paced sender touches the window only now and then.
		CwndLimited: f.limited && f.limitedAt >= now-rtt,
		InRecovery:  f.inRecovery, InLoss: f.inLoss,
	}
	f.ctl.OnAck(&f.ack)
	if ending {
		f.inRecovery, f.inLoss = false, false
		f.ctl.OnRecoveryExit(now, f.inFlight)
	}
	if f.cfg.OnAck != nil {
		f.cfg.OnAck(&f.ack)
	}
	f.send()
}

// deliver settles tx, and the held back ones that it acknowledges with it, and returns the bytes and the round-trip time.
func (f *Flow) deliver(tx uint64) (acked uint64, rtt time.Duration) {
	first := tx
	if n := uint64(f.cfg.AckEvery); n > 1 {
		first = tx - tx%n
	}
	for t := max(first, f.base); t <= tx; t++ {
		p := &f.pkts[t-f.base]
		if p.acked || !p.arrived {
			continue
		}
		p.acked = true
		if !p.lost {
			f.inFlight -= uint64(p.state.Size)
			acked += uint64(p.state.Size)
		}
		rtt = f.sim.now - p.state.SentTime
		f.sampler.OnDelivered(&p.state, f.sim.now)
	}
	f.Delivered += acked
	f.maxAcked = max(f.maxAcked, tx+1)
	return acked, rtt
}

// detectLosses marks what is lossThreshold behind the latest delivery and reports the bytes, and whether any left after the present episode began.
func (f *Flow) detectLosses() (lost uint64, fresh bool) {
	for f.base+lossThreshold < f.maxAcked {
		p := &f.pkts[0]
		if !p.acked && !p.lost {
			fresh = fresh || f.base >= f.recoveryEnd
			lost += uint64(p.state.Size)
			f.lose(p)
		}
		f.drop1()
	}
	for len(f.pkts) > 0 && f.pkts[0].acked {
		f.drop1()
	}
	return lost, fresh
}

func (f *Flow) drop1() {
	f.pkts = f.pkts[1:]
	f.base++
}

func (f *Flow) lose(p *packet) {
	size := uint64(p.state.Size)
	p.lost = true
	f.inFlight -= size
	f.resend += size
	f.Lost += size
	f.sampler.OnLost(&p.state)
	f.ctl.OnLost(&congestion.LossEvent{
		Now: f.sim.now, Size: size, Packet: &p.state, InFlight: f.inFlight,
		TotalLost: f.sampler.Lost(), Delivered: f.sampler.Delivered(),
	})
}

func (f *Flow) startRecovery(prior, lost uint64) {
	f.Recoveries++
	f.inRecovery, f.inLoss = true, false
	f.recoveryEnd = f.next
	f.signal(congestion.FastRecovery, prior, lost)
}

func (f *Flow) signal(s congestion.Signal, prior, lost uint64) {
	ev := congestion.SignalEvent{
		Now: f.sim.now, Signal: s, PriorInFlight: prior, InFlight: f.inFlight, NewlyLost: lost, Delivered: f.sampler.Delivered(),
	}
	if f.cfg.OnSignal != nil {
		f.cfg.OnSignal(&ev)
	}
	f.ctl.OnSignal(&ev)
}

// updateRTT follows RFC 6298.
func (f *Flow) updateRTT(rtt time.Duration) {
	if f.minRTT == 0 {
		f.minRTT, f.srtt, f.rttvar = rtt, rtt, rtt/2
		return
	}
	f.minRTT = min(f.minRTT, rtt)
	f.rttvar += ((rtt - f.srtt).Abs() - f.rttvar) / 4
	f.srtt += (rtt - f.srtt) / 8
}

func (f *Flow) rto() time.Duration {
	if f.srtt == 0 {
		return firstRTO << f.backoff
	}
	return (f.srtt + max(4*f.rttvar, minRTO)) << min(f.backoff, 8)
}

func (f *Flow) armRTO() {
	f.rtoArmed = f.inFlight > 0
	f.rtoAt = f.sim.now + f.rto()
	if f.rtoArmed && !f.rtoScheduled {
		f.rtoScheduled = true
		f.sim.schedule(event{at: f.rtoAt, kind: lossTimer, flow: f})
	}
}

func (f *Flow) onLossTimer() {
	f.rtoScheduled = false
	if !f.rtoArmed {
		return
	}
	if f.sim.now < f.rtoAt {
		f.rtoScheduled = true
		f.sim.schedule(event{at: f.rtoAt, kind: lossTimer, flow: f})
		return
	}
	prior, lost := f.inFlight, uint64(0)
	for i := range f.pkts {
		if p := &f.pkts[i]; !p.acked && !p.lost {
			lost += uint64(p.state.Size)
			f.lose(p)
		}
	}
	s := congestion.RTO
	if f.backoff > 0 {
		s = congestion.PersistentCongestion
	}
	f.RTOs++
	f.inRecovery, f.inLoss = false, true
	f.recoveryEnd = f.next
	f.signal(s, prior, lost)
	f.backoff++
	f.rtoArmed = false
	f.send()
}
