package suite

import (
	"fmt"
	"math"
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
)

// Cases returns the tests of the suite that are written in Go.
func Cases() []*runner.Case {
	return []*runner.Case{
		{
			Name: "open/isn-follows-a-clock.go",
			Tags: script.Tags{
				Title:   "Between the same addresses and ports the ISN follows a clock",
				Section: "RFC 9293 3.4.1", Requirements: []string{"MUST-8"},
				Profile: script.ProfileRFC, IP: script.BothIP,
			},
			Run: isnFollowsAClock,
		},
		{
			Name: "open/isn-of-other-ports-is-unrelated.go",
			Tags: script.Tags{
				Title:   "At one instant the ISNs of different ports are unrelated",
				Section: "RFC 9293 3.4.1", Requirements: []string{"SHLD-1"},
				Profile: script.ProfileRFC, IP: script.BothIP,
			},
			Run: isnOfOtherPortsIsUnrelated,
		},
	}
}

const (
	isnPort  = 8080  // where the target listens
	isnFirst = 50000 // the first port of the peer
)

// isnOf opens a connection as far as SYN-RECEIVED, resets it, and returns the
// initial sequence number that the target chose.
func isnOf(p *runner.Peer, port uint16) (uint32, error) {
	const seq, window = 1000, 65535
	syn := script.TCP{Flags: script.SYN, Seq: seq, Win: script.Some(uint16(window))}
	if err := p.Send(port, isnPort, syn); err != nil {
		return 0, err
	}
	got, err := p.Receive(time.Second)
	if err != nil {
		return 0, err
	}
	if got == nil || got.TCP.Flags != script.SYN|script.ACK {
		return 0, p.Failf("> S. 0:0(0) ack 1", fmt.Sprint(got), "a SYN is not answered with SYN and ACK")
	}
	return got.TCP.Seq, p.Send(port, isnPort, script.TCP{Flags: script.RST, Seq: seq + 1})
}

// isnFollowsAClock opens the same connection at intervals. The ISN is M + F,
// and F depends on addresses, ports and a secret only (RFC 9293 §3.4.1), so
// that what differs is M: it has to grow with time, at one rate.
func isnFollowsAClock(p *runner.Peer) error {
	if err := p.Listen(isnPort); err != nil {
		return err
	}
	const samples, interval = 6, 100 * time.Millisecond
	tolerance := 0.01
	if p.RealTime() {
		tolerance = 0.2
	}
	var rate float64 // of the first interval, per second
	last, err := isnOf(p, isnFirst)
	if err != nil {
		return err
	}
	for at := p.Now(); ; {
		p.Wait(interval)
		isn, err := isnOf(p, isnFirst)
		if err != nil {
			return err
		}
		now := p.Now()
		got := float64(int32(isn-last)) / (now - at).Seconds()
		switch {
		case got <= 0:
			return p.Failf("a larger ISN", fmt.Sprintf("%d after %d", isn, last),
				"%v later the ISN is %d, expected it to grow", interval, int32(isn-last))
		case rate == 0:
			rate = got
		case math.Abs(got-rate) > tolerance*rate:
			return p.Failf(fmt.Sprintf("%.0f a second", rate), fmt.Sprintf("%.0f a second", got),
				"the ISN grows by %.0f a second, by %.0f before", got, rate)
		}
		last, at = isn, now
		if now > samples*interval {
			return nil
		}
	}
}

// isnOfOtherPortsIsUnrelated opens connections from many ports at once. A
// pseudorandom function spreads their ISNs over the whole space; a counter or
// a clock alone does not.
func isnOfOtherPortsIsUnrelated(p *runner.Peer) error {
	if err := p.Listen(isnPort); err != nil {
		return err
	}
	const connections, octants = 64, 8
	var seen [octants]bool
	distances := make(map[uint32]bool)
	var last uint32
	for i := range uint16(connections) {
		isn, err := isnOf(p, isnFirst+i)
		if err != nil {
			return err
		}
		seen[isn>>29] = true
		if i > 0 {
			distances[isn-last] = true
		}
		last = isn
	}
	covered := 0
	for _, s := range seen {
		if s {
			covered++
		}
	}
	// 64 numbers by chance miss one part of eight once in 600 cases, and two
	// once in three million.
	if covered < octants-1 {
		return p.Failf("ISNs all over the space", fmt.Sprintf("ISNs in %d of %d parts of it", covered, octants),
			"%d connections have ISNs in %d of %d parts of the space", connections, covered, octants)
	}
	if len(distances) < connections-1 {
		return p.Failf("unrelated ISNs", fmt.Sprintf("%d distances", len(distances)),
			"the ISNs of %d connections have %d different distances", connections, len(distances))
	}
	return nil
}
