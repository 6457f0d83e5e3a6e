package congestiontest

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

const (
	defaultMSS = 1000
	baseRTT    = 50 * time.Millisecond
)

// transport is the least that stands between a controller and a script of events: packets in flight, totals, and the order of calls that congestion.Controller
// documents. It checks the invariants after each call; the first broken one is kept in err.
type transport struct {
	congestion.Controller
	now     congestion.Time
	origin  congestion.Time
	mss     uint32
	sampler congestion.Sampler
	flight  []congestion.PacketState // oldest first
	bytes   uint64                   // in flight
	minRTT  time.Duration
	ack     congestion.AckEvent
	lossEv  congestion.LossEvent
	signal  congestion.SignalEvent

	inRecovery, inLoss bool
	lastSignal         congestion.Signal
	appLimited         bool
	peak               uint64 // the largest window so far
	trace              []congestion.Control
	keepTrace          bool
	err                error
}

func newTransport(c congestion.Controller, origin congestion.Time) *transport {
	x := &transport{Controller: c, now: origin, origin: origin, mss: defaultMSS}
	x.Init(congestion.Config{MSS: x.mss, InitialWindow: 10 * defaultMSS, Now: origin, Rand: rand.New(rand.NewPCG(7, 11))})
	x.check("Init")
	return x
}

func (x *transport) cwnd() uint64 { return x.Control().Cwnd }

func (x *transport) fail(format string, args ...any) {
	if x.err == nil {
		x.err = fmt.Errorf("at %v: %s", x.now-x.origin, fmt.Sprintf(format, args...))
	}
}

// check looks at what holds after any event.
func (x *transport) check(after string) {
	c := x.Control()
	if x.keepTrace {
		x.trace = append(x.trace, c)
	}
	if c.Cwnd < uint64(x.mss) || c.Cwnd > congestion.MaxWindow {
		x.fail("after %s cwnd is %d, outside one MSS (%d) to MaxWindow", after, c.Cwnd, x.mss)
	}
	if c.Ssthresh == 0 || c.Ssthresh > congestion.MaxWindow {
		x.fail("after %s ssthresh is %d, outside 1 to MaxWindow", after, c.Ssthresh)
	}
	if c.PacingRate > congestion.MaxRate {
		x.fail("after %s the pacing rate is %d, above MaxRate", after, c.PacingRate)
	}
	if c.Capabilities.Has(congestion.NeedsPacing) && c.PacingRate == 0 {
		x.fail("after %s an algorithm that needs pacing gives no rate", after)
	}
	x.peak = max(x.peak, c.Cwnd)
}

// send fills the window, up to n packets.
func (x *transport) send(n int) {
	for range n {
		if x.bytes+uint64(x.mss) > x.cwnd() {
			x.appLimited = false
			return
		}
		x.sendOne()
	}
	x.appLimited = true
	x.sampler.MarkAppLimited(x.bytes)
}

func (x *transport) sendOne() {
	var p congestion.PacketState
	x.sampler.OnSent(&p, x.now, x.mss, x.bytes, false)
	x.flight = append(x.flight, p)
	x.bytes += uint64(x.mss)
	x.OnSent(x.now, uint64(x.mss), x.bytes)
	x.check("OnSent")
}

// fill fills the window, or as much of it as a test can bear.
func (x *transport) fill() { x.send(1024) }

// acknowledge delivers the n oldest packets after the lost ones before them were marked so.
func (x *transport) acknowledge(lost, n int) {
	lost = min(lost, len(x.flight))
	n = min(n, len(x.flight)-lost)
	if n == 0 {
		return
	}
	x.sampler.Begin(x.now)
	prior := x.bytes
	var acked, lostBytes uint64
	for i := range n {
		p := &x.flight[lost+i]
		acked += uint64(p.Size)
		x.sampler.OnDelivered(p, x.now)
	}
	x.bytes -= acked
	for i := range lost {
		lostBytes += uint64(x.flight[i].Size)
		x.lose(&x.flight[i])
	}
	newest := &x.flight[lost+n-1]
	rtt := x.now - newest.SentTime
	if rtt > 0 && (x.minRTT == 0 || rtt < x.minRTT) {
		x.minRTT = rtt
	}
	if lost > 0 && !x.inRecovery && !x.inLoss {
		x.inRecovery = true
		x.congested(congestion.FastRecovery, prior, lostBytes)
	}
	x.flight = x.flight[lost+n:]
	x.ack = congestion.AckEvent{
		Now: x.now, Sample: x.sampler.Finish(x.minRTT, x.bytes),
		Acked: acked, CumAcked: acked, Lost: lostBytes, PriorInFlight: prior, InFlight: x.bytes,
		Delivered: x.sampler.Delivered(), TotalLost: x.sampler.Lost(),
		RTT: rtt, SRTT: rtt, MinRTT: x.minRTT, CwndLimited: !x.appLimited,
		InRecovery: x.inRecovery, InLoss: x.inLoss,
	}
	x.onAck()
}

// onAck hands over the ACK and checks how the window grew.
func (x *transport) onAck() {
	peak := x.peak
	x.OnAck(&x.ack)
	// A floor of a few segments may apply, as to BBR's.
	if w := x.cwnd(); w > max(peak+x.ack.Acked+uint64(x.mss), 4*uint64(x.mss)) {
		x.fail("an ACK for %d bytes grew cwnd to %d, its peak was %d", x.ack.Acked, w, peak)
	}
	x.check("OnAck")
}

func (x *transport) lose(p *congestion.PacketState) {
	x.bytes -= uint64(p.Size)
	x.sampler.OnLost(p)
	x.lossEv = congestion.LossEvent{
		Now: x.now, Size: uint64(p.Size), Packet: p, InFlight: x.bytes, TotalLost: x.sampler.Lost(), Delivered: x.sampler.Delivered(),
	}
	x.OnLost(&x.lossEv)
	x.check("OnLost")
}

// congested signals an episode and checks that it is no reason to send more.
func (x *transport) congested(s congestion.Signal, prior, lost uint64) {
	before := x.cwnd()
	x.lastSignal = s
	x.signal = congestion.SignalEvent{
		Now: x.now, Signal: s, PriorInFlight: prior, InFlight: x.bytes, NewlyLost: lost, Delivered: x.sampler.Delivered(),
	}
	x.OnSignal(&x.signal)
	if w := x.cwnd(); w > max(before, x.bytes+uint64(x.mss), 2*uint64(x.mss)) {
		x.fail("signal %d raised cwnd from %d to %d", s, before, w)
	}
	x.check("OnSignal")
}

// timeout loses all that is in flight.
func (x *transport) timeout() {
	prior, lost := x.bytes, uint64(0)
	for i := range x.flight {
		lost += uint64(x.flight[i].Size)
		x.lose(&x.flight[i])
	}
	x.flight = x.flight[:0]
	s := congestion.RTO
	if x.inLoss {
		s = congestion.PersistentCongestion
	}
	x.inRecovery, x.inLoss = false, true
	x.congested(s, prior, lost)
}

func (x *transport) exitRecovery() {
	if !x.inRecovery && !x.inLoss {
		return
	}
	x.inRecovery, x.inLoss = false, false
	x.OnRecoveryExit(x.now, x.bytes)
	x.check("OnRecoveryExit")
}

func (x *transport) spurious() {
	if x.lastSignal == 0 {
		return
	}
	x.inRecovery, x.inLoss = false, false
	x.OnSpurious(x.now, x.lastSignal, x.bytes)
	x.check("OnSpurious")
	x.lastSignal = 0
}

func (x *transport) idle(d time.Duration) {
	x.acknowledge(0, len(x.flight))
	x.exitRecovery()
	x.now += d
	peak := x.peak
	x.OnIdleRestart(x.now, d)
	if w := x.cwnd(); w > peak {
		x.fail("idleness raised cwnd to %d, its peak was %d", w, peak)
	}
	x.check("OnIdleRestart")
}

func (x *transport) setMSS(mss uint32) {
	x.mss = mss
	x.OnMSS(x.now, mss)
	x.check("OnMSS")
}

// round sends a window and acknowledges it, in ACKs for two packets, a round trip later.
func (x *transport) round(rtt time.Duration) {
	x.fill()
	x.now += rtt
	for n := len(x.flight); n > 0; n -= 2 {
		x.acknowledge(0, min(n, 2))
		x.now += rtt / 1000
		if x.err != nil {
			return
		}
	}
	x.exitRecovery()
}
