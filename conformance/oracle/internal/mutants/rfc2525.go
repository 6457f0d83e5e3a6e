package mutants

import (
	"encoding/binary"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/congestion"
)

type options = []func(tcpip.Endpoint) tcpip.Error

// rfc2525 are the faults of section 2 of RFC 2525, in its order.
var rfc2525 = []Mutant{
	{
		Name: "no-initial-slow-start", RFC2525: "2.1", Title: "No initial slow start", Rule: "initial-window",
		scenario: scenario{sends: 200_000},
		set:      options{faulty("m-full-window", controller{floor: 60_000})},
	},
	{
		Name: "no-slow-start-after-rto", RFC2525: "2.2", Title: "No slow start after retransmission timeout", Rule: "rto-flight",
		scenario: scenario{sends: 300_000, drive: outage(400*time.Millisecond, 1100*time.Millisecond)},
		set:      options{faulty("m-deaf-to-rto", controller{deafTo: []congestion.Signal{congestion.RTO, congestion.PersistentCongestion, congestion.TLP}})},
	},
	{
		Name: "uninitialised-cwnd", RFC2525: "2.3", Title: "Uninitialized CWND", Rule: "initial-window",
		scenario: scenario{sends: 60_000},
		// The window is only set where the SYN-ACK has an MSS option, which this
		// one has not.
		fault: func(_, peer *host) {
			peer.layer.onOut(func(p *wire.Packet) bool {
				if p.TCP.Flags&wire.SYN != 0 {
					strip(p, 2)
				}
				return true
			})
		},
		set: options{faulty("m-uninitialised", controller{floor: 1 << 30})},
	},
	{
		Name: "inconsistent-retransmission", RFC2525: "2.4", Title: "Inconsistent retransmission", Rule: "same-bytes",
		scenario: scenario{sends: 200_000, drive: lose(between(20, 20))},
		fault: func(m, _ *host) {
			m.layer.onOut(func(p *wire.Packet) bool {
				if m.layer.again(p) && len(p.TCP.Payload) > 1 {
					copy(p.TCP.Payload[1:], p.TCP.Payload) // what stood one octet before
				}
				return true
			})
		},
	},
	{
		Name: "drops-out-of-order", RFC2525: "2.5", Title: "Failure to retain above-sequence data", Rule: "retain",
		scenario: scenario{receives: 200_000, noOptions: true, drive: loseArriving(between(20, 20))},
		fault:    dropsOutOfOrder,
	},
	{
		Name: "extra-constant-in-avoidance", RFC2525: "2.6", Title: "Extra additive constant in congestion avoidance", Rule: "avoidance",
		scenario: scenario{sends: 6_000_000, mss: 536, drive: lose(between(100, 100))},
		set: options{faulty("m-extra", controller{onAck: func(c *controller, ev *congestion.AckEvent) {
			if out := c.Controller.Control(); out.Cwnd >= out.Ssthresh && !ev.InRecovery && !ev.InLoss {
				c.extra += uint64(c.cfg.MSS) / 8
			}
		}})},
	},
	{
		Name: "initial-rto-too-low", RFC2525: "2.7", Title: "Initial RTO too low", Rule: "initial-rto",
		scenario: scenario{sends: 10_000, delay: 2 * time.Second},
		fault: func(m, _ *host) {
			m.layer.onOut(func(p *wire.Packet) bool {
				if p.TCP.Flags&wire.SYN != 0 {
					again := clone(p)
					if v, ok := option(again, 8); ok {
						binary.BigEndian.PutUint32(v, binary.BigEndian.Uint32(v)+200)
					}
					m.layer.clock().AfterFunc(200*time.Millisecond, func() { m.layer.send(again) })
				}
				return true
			})
		},
	},
	{
		Name: "no-deflation", RFC2525: "2.8", Title: "Failure of window deflation after loss recovery", Rule: "deflate",
		scenario: scenario{sends: 2_000_000, drive: lose(between(100, 100))},
		set: options{faulty("m-inflated", controller{deafTo: []congestion.Signal{congestion.FastRecovery}, control: func(c *controller, out congestion.Control) congestion.Control {
			out.Ssthresh = congestion.MaxWindow // so that recovery reduces nothing either
			return out
		}})},
	},
	{
		Name: "short-keepalive-timeout", RFC2525: "2.9", Title: "Excessively short keepalive connection timeout", Rule: "keepalive-limit",
		scenario: scenario{sends: 1000, open: true, keepAlive: true, last: 3 * time.Hour, drive: unplug(10 * time.Second)},
		set:      options{keepaliveIdle(2 * time.Hour), keepalives(4, time.Second)},
	},
	{
		Name: "no-backoff", RFC2525: "2.10", Title: "Failure to back off retransmission timeout", Rule: "backoff",
		scenario: scenario{sends: 100_000, drive: unplug(250 * time.Millisecond)},
		set:      options{maxRTO(300 * time.Millisecond)},
	},
	{
		Name: "short-keepalive-interval", RFC2525: "2.11", Title: "Insufficient interval between keepalives", Rule: "keepalive-idle",
		scenario: scenario{sends: 1000, open: true, keepAlive: true, last: 10 * time.Minute},
		set:      options{keepaliveIdle(30 * time.Second)},
	},
	{
		Name: "window-probe-deadlock", RFC2525: "2.12", Title: "Window probe deadlock", Rule: "probe",
		scenario: scenario{sends: 3_000_000, peerDeaf: true, last: 10 * time.Minute, drive: listens(thePeer, 5*time.Minute)},
		fault: func(m, _ *host) {
			m.layer.onOut(func(p *wire.Packet) bool { return len(p.TCP.Payload) != 1 })
		},
	},
	{
		Name: "stretch-acks", RFC2525: "2.13", Title: "Stretch ACK violation", Rule: "stretch-ack",
		scenario: scenario{receives: 400_000, noOptions: true},
		fault:    func(m, _ *host) { stretchAcks(m.layer, 6, 150*time.Millisecond) },
	},
	{
		Name: "retransmits-many", RFC2525: "2.14", Title: "Retransmission sends multiple packets", Rule: "rto-flight",
		scenario: scenario{sends: 300_000, drive: unplug(450 * time.Millisecond)},
		fault:    retransmitsAll,
	},
	{
		Name: "fin-waits", RFC2525: "2.15", Title: "Failure to send FIN notification promptly", Rule: "fin-prompt",
		scenario: scenario{sends: 50_000},
		fault:    finWaits,
	},
	{
		Name: "no-reset-after-half-duplex-close", RFC2525: "2.16", Title: "Failure to send a RST after Half Duplex Close", Rule: "reset-unread",
		// A close that resets nothing is on the wire a shutdown by somebody who
		// reads no more.
		scenario: scenario{receives: 3_000_000, deaf: true, last: 2 * time.Minute, drive: hasty(300 * time.Millisecond)},
	},
	{
		Name: "no-reset-with-data-pending", RFC2525: "2.17", Title: "Failure to RST on close with data pending", Rule: "reset-pending",
		scenario: scenario{receives: 3_000, deaf: true, drive: hasty(time.Second)},
	},
	{
		Name: "options-not-in-mss", RFC2525: "2.18", Title: "Options missing from TCP MSS calculation", Rule: "mss",
		scenario: scenario{sends: 100_000},
		fault: func(m, peer *host) {
			peer.layer.onOut(func(p *wire.Packet) bool { return changeMSS(p, -200) })
			m.layer.onIn(func(p *wire.Packet) bool { return changeMSS(p, 12) })
		},
	},
}

// changeMSS adds to the MSS option of a SYN, so that the stack behind it sends
// segments that are as much longer.
func changeMSS(p *wire.Packet, by int) bool {
	if v, ok := option(p, 2); ok && p.TCP.Flags&wire.SYN != 0 {
		mss := int(v[0])<<8 + int(v[1]) + by
		v[0], v[1] = byte(mss>>8), byte(mss)
	}
	return true
}

// dropsOutOfOrder hides from the stack what is not next, and acknowledges again
// in its stead.
func dropsOutOfOrder(m, _ *host) {
	var next uint32
	var ack *wire.Packet
	m.layer.onOut(func(p *wire.Packet) bool {
		ack = clone(p)
		return true
	})
	m.layer.onIn(func(p *wire.Packet) bool {
		if p.TCP.Flags&wire.SYN != 0 {
			next = p.TCP.Seq + 1
			return true
		}
		end := p.TCP.Seq + p.TCP.Len()
		switch {
		case p.TCP.Len() == 0 || int32(end-next) <= 0:
		case int32(p.TCP.Seq-next) <= 0:
			next = end
		default:
			again := clone(ack)
			again.TCP.Payload, again.TCP.Seq = nil, m.layer.next
			m.layer.send(again)
			return false
		}
		return true
	})
}

// stretchAcks withholds acknowledgments until one covers so many segments or has
// waited for so long.
func stretchAcks(l *layer, segments uint32, wait time.Duration) {
	var sent uint32 // the acknowledgment number that has left
	var held *wire.Packet
	l.onOut(func(p *wire.Packet) bool {
		if p.TCP.Flags != wire.ACK || len(p.TCP.Payload) > 0 || p.TCP.Ack-sent >= segments*1400 || p.TCP.Ack == sent {
			sent, held = p.TCP.Ack, nil
			return true
		}
		if held == nil {
			l.r.clock.AfterFunc(wait, func() {
				if held != nil {
					sent = held.TCP.Ack
					l.send(held)
					held = nil
				}
			})
		}
		held = clone(p)
		return false
	})
}

// retransmitsAll sends all that is not acknowledged whenever the timer sends the
// first segment of it.
func retransmitsAll(m, _ *host) {
	var flight []*wire.Packet
	m.layer.onOut(func(p *wire.Packet) bool {
		l := m.layer
		if len(p.TCP.Payload) == 0 {
			return true
		}
		if !l.again(p) {
			flight = append(flight, clone(p))
			return true
		}
		for len(flight) > 0 && int32(flight[0].TCP.Seq+flight[0].TCP.Len()-l.acked) <= 0 {
			flight = flight[1:]
		}
		if p.TCP.Seq != l.acked {
			return true
		}
		l.send(p)
		for _, q := range flight[min(1, len(flight)):] {
			l.send(l.afresh(q))
		}
		return false
	})
}

// finWaits keeps a FIN back until the data before it is acknowledged.
func finWaits(m, _ *host) {
	l := m.layer
	var held *wire.Packet
	done := false
	l.onOut(func(p *wire.Packet) bool {
		if done || p.TCP.Flags&wire.FIN == 0 {
			return true
		}
		if held == nil {
			held = clone(p)
		}
		p.TCP.Flags &^= wire.FIN
		return len(p.TCP.Payload) > 0
	})
	l.onIn(func(p *wire.Packet) bool {
		if held != nil && p.TCP.Flags&wire.ACK != 0 && p.TCP.Ack == held.TCP.Seq+uint32(len(held.TCP.Payload)) {
			held.TCP.Seq, held.TCP.Payload = p.TCP.Ack, nil
			l.send(held)
			held, done = nil, true
		}
		return true
	})
}
