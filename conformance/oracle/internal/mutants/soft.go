package mutants

import (
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/congestion"
)

// soft are mutants that break rules of the soft tier only.
var soft = []Mutant{
	{
		Name: "shrinks-the-window", Title: "a right edge that moves back", Rule: "right-edge", scenario: download,
		fault: func(m, peer *host) {
			n := 0
			sending(func(_ *layer, p *wire.Packet) {
				if n++; n%5 == 0 && !isSYN(p) {
					p.TCP.Window /= 2
				}
			})(m, peer)
		},
	},
	{
		Name: "echo-in-first-syn", Title: "a timestamp echo in a segment without ACK", Rule: "echo-without-ack", scenario: download,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if v, ok := option(p, 8); ok && p.TCP.Flags == wire.SYN {
				v[7] = 9
			}
		}),
	},
	{
		Name: "initial-window-of-20", Title: "an initial window of 20 segments", Rule: "initial-window", scenario: upload,
		set: options{faulty("m-iw20", controller{floor: 20 * 1448})},
	},
	{
		Name: "slow-start-times-four", Title: "slow start that adds three segments for one", Rule: "slow-start", scenario: scenario{sends: 1_000_000},
		set: options{faulty("m-times4", controller{onAck: func(c *controller, ev *congestion.AckEvent) { c.extra += 3 * ev.Acked }})},
	},
	{
		Name: "window-survives-rto", Title: "slow start after a time-out begins where it ended", Rule: "rto-slow-start",
		scenario: scenario{sends: 300_000, drive: outage(400*time.Millisecond, 1100*time.Millisecond)},
		fault:    burstAfterTimeout,
	},
	{
		Name: "acks-after-700ms", Title: "acknowledgments that wait for 700 ms", Rule: "delayed-ack",
		scenario: scenario{receives: 1000, open: true},
		fault:    func(m, _ *host) { stretchAcks(m.layer, 100, 700*time.Millisecond) },
	},
	{
		Name: "acks-every-fourth", Title: "an acknowledgment for every fourth segment", Rule: "stretch-ack",
		scenario: scenario{receives: 400_000, noOptions: true},
		fault:    func(m, _ *host) { stretchAcks(m.layer, 4, 100*time.Millisecond) },
	},
	{
		Name: "no-backoff-of-syn", Title: "SYNs at the same distance", Rule: "backoff",
		scenario: scenario{sends: 1000, drive: unplug(0), last: 30 * time.Second},
		set:      options{maxRTO(time.Second)},
	},
	{
		Name: "impatient-syn", Title: "a SYN that is sent again after 300 ms", Rule: "initial-rto",
		scenario: scenario{sends: 1000, drive: unplug(0), last: 3 * time.Second},
		set:      options{maxRTO(300 * time.Millisecond)},
	},
	{
		Name: "retransmits-within-rtt", Title: "a segment that is sent again before its acknowledgment can be back", Rule: "early-retransmit",
		scenario: scenario{sends: 1000},
		fault: func(m, _ *host) {
			l := m.layer
			first := nth(1)
			l.onOut(func(p *wire.Packet) bool {
				if hasData(p) && first() {
					l.later(30*time.Millisecond, p, func() bool { return int32(l.acked-p.TCP.Seq) <= 0 })
				}
				return true
			})
		},
	},
	{
		Name: "no-multiplicative-decrease", Title: "a window that a loss does not reduce", Rule: "deflate",
		scenario: scenario{sends: 2_000_000, drive: lose(between(80, 80))},
		set:      options{faulty("m-no-decrease", controller{control: neverLess})},
	},
	{
		Name: "no-avoidance", Title: "slow start after a loss, without an end", Rule: "avoidance",
		scenario: scenario{sends: 6_000_000, mss: 536, drive: lose(between(100, 100))},
		set: options{faulty("m-no-avoid", controller{onAck: func(c *controller, ev *congestion.AckEvent) {
			if out := c.Controller.Control(); out.Cwnd >= out.Ssthresh && !ev.InRecovery {
				c.extra += ev.Acked
			}
		}})},
	},
	{
		Name: "keepalive-after-a-minute", Title: "keep-alives after a minute", Rule: "keepalive-idle",
		scenario: scenario{sends: 1000, open: true, keepAlive: true, last: 10 * time.Minute},
		set:      options{keepaliveIdle(time.Minute)},
	},
	{
		Name: "one-keepalive", Title: "a connection that ends after one keep-alive without an answer", Rule: "keepalive-limit",
		scenario: scenario{sends: 1000, open: true, keepAlive: true, last: 4 * time.Hour, drive: unplug(10 * time.Second)},
		set:      options{keepaliveIdle(2 * time.Hour), keepalives(1, 75*time.Second)},
	},
}

// neverLess keeps the window from shrinking, and recovery from reducing it.
func neverLess(c *controller, out congestion.Control) congestion.Control {
	c.floor = max(c.floor, out.Cwnd)
	out.Ssthresh = max(out.Ssthresh, c.floor)
	return out
}

// burstAfterTimeout sends ten segments again at once when the first that a
// time-out has sent again is acknowledged.
func burstAfterTimeout(m, _ *host) {
	var flight []*wire.Packet
	l := m.layer
	timedOut, done := uint32(0), false
	at := time.Duration(0)
	l.onOut(func(p *wire.Packet) bool {
		if !hasData(p) {
			return true
		}
		if !l.again(p) {
			flight = append(flight, clone(p))
		} else if p.TCP.Seq == l.acked && timedOut == 0 && l.r.clock.Elapsed()-at > 150*time.Millisecond {
			timedOut = p.TCP.Seq
		}
		at = l.r.clock.Elapsed()
		return true
	})
	l.onIn(func(p *wire.Packet) bool {
		if timedOut == 0 || done || int32(p.TCP.Ack-timedOut) <= 0 {
			return true
		}
		done = true
		n := 0
		for _, q := range flight {
			if int32(q.TCP.Seq-p.TCP.Ack) >= 0 && n < 10 {
				l.later(time.Millisecond, q, nil)
				n++
			}
		}
		return true
	})
}
