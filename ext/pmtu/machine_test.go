package pmtu

import (
	"fmt"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

func at(d time.Duration) tcpip.MonotonicTime { return tcpip.MonotonicTime{}.Add(time.Hour + d) }

// walk runs a Machine over a path that carries up to mtu, as a transport would: a probe when there is one, a round trip later its fate. With icmp a router says what
// is too big. It stops when nothing is left to do before the limit, and returns the probes sent.
func walk(m *Machine, now *time.Duration, limit time.Duration, mtu uint32, icmp bool) (probes []uint32) {
	const rtt = 50 * time.Millisecond
	for *now < limit {
		if size, ok := m.Probe(); ok {
			m.Sent(at(*now))
			probes = append(probes, size)
			*now += rtt
			switch {
			case size <= mtu:
				m.Acked(at(*now), size)
			case icmp:
				m.TooBig(at(*now), mtu)
			default:
				m.ProbeLost(at(*now))
			}
			continue
		}
		due, ok := m.Deadline()
		if !ok || !due.Before(at(limit)) {
			*now = limit
			break
		}
		*now += due.Sub(at(*now))
		m.Tick(at(*now))
	}
	return probes
}

func TestSearchFindsThePath(t *testing.T) {
	tests := []struct {
		mtu    uint32
		state  State
		probes int // without ICMP, at most
	}{
		{1500, Complete, 2}, {1499, Complete, 24}, {1492, Complete, 24}, {1400, Complete, 24}, {1280, Complete, 24}, {1201, Complete, 24}, {1200, Complete, 24},
		{1000, Error, 30}, {576, Error, 30}, {552, Error, 30},
	}
	for _, tt := range tests {
		for _, icmp := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.mtu, " icmp ", icmp), func(t *testing.T) {
				m := NewMachine(Config{Mode: Always})
				var now time.Duration
				m.Start(at(now), 0)
				probes := walk(m, &now, time.Minute, tt.mtu, icmp)
				if m.MTU() > tt.mtu || tt.mtu-m.MTU() >= m.Config().Step || m.State() != tt.state {
					t.Errorf("found %d in state %v, want %d less at most a step, %v", m.MTU(), m.State(), tt.mtu, tt.state)
				}
				if icmp && (m.MTU() != tt.mtu || len(probes) > 4) || len(probes) > tt.probes {
					t.Errorf("%d probes: %v", len(probes), probes)
				}
			})
		}
	}
}

func TestJumboAndIPv6(t *testing.T) {
	for _, mtu := range []uint32{9000, 8166, 4096, 1500, 1280} {
		m := NewMachine(Config{Mode: Always, Min: 1280, Base: 1280, Max: 9000})
		var now time.Duration
		m.Start(at(now), 0)
		probes := walk(m, &now, time.Minute, mtu, false)
		if m.MTU() > mtu || mtu-m.MTU() >= 16 || m.State() != Complete {
			t.Errorf("MTU %d: found %d (%v) with %v", mtu, m.MTU(), m.State(), probes)
		}
	}
}

func TestTransitions(t *testing.T) {
	always := Config{Mode: Always}
	// Each step is a call; the state and MTU after it are checked.
	type step struct {
		do    func(m *Machine, now tcpip.MonotonicTime)
		state State
		mtu   uint32
		probe uint32 // 0 for none to be sent
	}
	start := func(m *Machine, now tcpip.MonotonicTime) { m.Start(now, 0) }
	sent := func(m *Machine, now tcpip.MonotonicTime) { m.Sent(now) }
	acked := func(n uint32) func(*Machine, tcpip.MonotonicTime) {
		return func(m *Machine, now tcpip.MonotonicTime) { m.Acked(now, n) }
	}
	lose := func(n int) func(*Machine, tcpip.MonotonicTime) {
		return func(m *Machine, now tcpip.MonotonicTime) {
			for range n {
				m.Sent(now)
				m.ProbeLost(now)
			}
		}
	}
	tooBig := func(n uint32) func(*Machine, tcpip.MonotonicTime) {
		return func(m *Machine, now tcpip.MonotonicTime) { m.TooBig(now, n) }
	}
	lost := func(n int, size uint32) func(*Machine, tcpip.MonotonicTime) {
		return func(m *Machine, now tcpip.MonotonicTime) {
			for range n {
				m.Lost(now, size)
			}
		}
	}
	timedOut := func(size uint32) func(*Machine, tcpip.MonotonicTime) {
		return func(m *Machine, now tcpip.MonotonicTime) { m.TimedOut(now, size) }
	}
	tick := func(d time.Duration) func(*Machine, tcpip.MonotonicTime) {
		return func(m *Machine, now tcpip.MonotonicTime) { m.Tick(now.Add(d)) }
	}
	tests := []struct {
		name  string
		cfg   Config
		steps []step
	}{
		{"off stays off", Config{}, []step{
			{start, Disabled, 1500, 0},
			{timedOut(1500), Disabled, 1500, 0},
			{lost(9, 1500), Disabled, 1500, 0},
			{tooBig(1400), Disabled, 1400, 0},
			{tooBig(1450), Disabled, 1400, 0},
			{tooBig(100), Disabled, 1400, 0},
		}},
		{"up to the link's MTU", always, []step{
			{start, Base, 1200, 1200},
			{sent, Base, 1200, 0},
			{acked(1200), Searching, 1200, 1500},
			{sent, Searching, 1200, 0},
			{acked(1500), Complete, 1500, 0},
			{tick(9 * time.Minute), Complete, 1500, 0},
			{tick(11 * time.Minute), Complete, 1500, 0}, // nothing above: complete again at once
		}},
		{"three lost probes of a size make it too large", always, []step{
			{start, Base, 1200, 1200}, {sent, Base, 1200, 0}, {acked(1200), Searching, 1200, 1500},
			{lose(2), Searching, 1200, 1500},
			{lose(1), Searching, 1200, 1380},
			{sent, Searching, 1200, 0},
			{acked(1380), Searching, 1380, 1440},
		}},
		{"a probe nobody answers is lost by time", always, []step{
			{start, Base, 1200, 1200}, {sent, Base, 1200, 0},
			{tick(14 * time.Second), Base, 1200, 0},
			{tick(15 * time.Second), Base, 1200, 1200},
		}},
		{"what the router says is tried next", always, []step{
			{start, Base, 1200, 1200}, {sent, Base, 1200, 0}, {acked(1200), Searching, 1200, 1500}, {sent, Searching, 1200, 0},
			{tooBig(1436), Searching, 1200, 1436},
			{sent, Searching, 1200, 0},
			{acked(1436), Complete, 1436, 0},
		}},
		{"a router that names no MTU", always, []step{
			{start, Base, 1200, 1200}, {sent, Base, 1200, 0}, {acked(1200), Searching, 1200, 1500}, {sent, Searching, 1200, 0},
			{tooBig(0), Searching, 1200, 1380},
			{tooBig(0), Searching, 1200, 1380}, // nothing is under way
		}},
		{"base does not work", always, []step{
			{start, Base, 1200, 1200},
			{lose(3), Error, 552, 876},
			{sent, Error, 552, 0},
			{acked(876), Error, 876, 1038},
			{tooBig(551), Error, 876, 1038}, // below Min
		}},
		{"error is left when base works", always, []step{
			{start, Base, 1200, 1200}, {sent, Base, 1200, 0},
			{tooBig(700), Error, 700, 700}, // the router was believed by whoever checked the error
			{sent, Error, 700, 0},
			{acked(700), Error, 700, 0},
			{tick(10 * time.Minute), Error, 700, 1200},
			{sent, Error, 700, 0},
			{acked(1200), Searching, 1200, 1500},
		}},
		{"black hole by timeouts", Config{Mode: OnBlackHole}, []step{
			{start, Disabled, 1500, 0},
			{timedOut(1500), Disabled, 1500, 0},
			{acked(1200), Disabled, 1500, 0}, // in the size of Fallback, or smaller than the rest
			{timedOut(1500), Base, 1200, 1200},
			{timedOut(1200), Base, 1200, 1200},
			{acked(1200), Searching, 1200, 1500},
		}},
		{"losses alone are congestion", Config{Mode: OnBlackHole}, []step{
			{start, Disabled, 1500, 0},
			{lost(9, 1500), Disabled, 1500, 0},
			{acked(1500), Disabled, 1500, 0},
			{lost(2, 1500), Disabled, 1500, 0},
			{acked(100), Disabled, 1500, 0},
			{lost(1, 1500), Base, 1200, 1200}, // the third in a row, and small packets pass
		}},
		{"a time-out, then small packets pass, then another", Config{Mode: OnBlackHole}, []step{
			{start, Disabled, 1500, 0}, {timedOut(1500), Disabled, 1500, 0}, {acked(552), Disabled, 1500, 0}, {timedOut(1500), Error, 552, 1200},
			{acked(1200), Searching, 1200, 1500},
		}},
		{"a part of what timed out does, though something small arrived", Config{Mode: OnBlackHole}, []step{
			{start, Disabled, 1500, 0}, {timedOut(1500), Disabled, 1500, 0}, {acked(100), Disabled, 1500, 0}, {timedOut(1200), Error, 552, 1200},
		}},
		{"a packet of that size arrives between two time-outs", Config{Mode: OnBlackHole}, []step{
			{start, Disabled, 1500, 0}, {timedOut(1500), Disabled, 1500, 0}, {acked(1500), Disabled, 1500, 0}, {timedOut(1500), Disabled, 1500, 0},
		}},
		{"what arrives is smaller than what is lost, though larger than Base", Config{Mode: OnBlackHole}, []step{
			{start, Disabled, 1500, 0}, {lost(1, 1500), Disabled, 1500, 0}, {acked(1300), Disabled, 1500, 0}, {lost(1, 1500), Disabled, 1500, 0},
			{acked(1300), Disabled, 1500, 0}, {lost(1, 1500), Base, 1200, 1200},
		}},
		{"nothing arrives, whatever its size; then the path is up again", Config{Mode: OnBlackHole}, []step{
			{start, Disabled, 1500, 0},
			{timedOut(1500), Disabled, 1500, 0},
			{timedOut(1500), Error, 552, 1200},
			{timedOut(552), Error, 552, 1200},
			{acked(552), Error, 552, 1200},
			{sent, Error, 552, 0}, {acked(1200), Searching, 1200, 1500},
			{sent, Searching, 1200, 0}, {acked(1500), Complete, 1500, 0},
		}},
		{"base itself vanishes", always, []step{
			{start, Base, 1200, 1200}, {timedOut(1200), Base, 1200, 1200}, {acked(552), Base, 1200, 1200}, {timedOut(1200), Error, 552, 1200},
			{lose(2), Error, 552, 1200}, {lose(1), Error, 552, 876},
		}},
		{"what a router said proves wrong", always, []step{
			{start, Base, 1200, 1200}, {tooBig(1000), Error, 1000, 1000},
			{lose(3), Error, 552, 776},
		}},
		{"a router bounds the search", always, []step{
			{start, Base, 1200, 1200}, {tooBig(1400), Base, 1200, 1200}, {acked(1200), Searching, 1200, 1400}, {sent, Searching, 1200, 0}, {acked(1400), Complete, 1400, 0},
		}},
		{"small packets are no victims", Config{Mode: OnBlackHole}, []step{
			{start, Disabled, 1500, 0}, {acked(60), Disabled, 1500, 0}, {lost(9, 1100), Disabled, 1500, 0}, {timedOut(1200), Disabled, 1500, 0},
		}},
		{"the path shrinks, with ICMP", always, []step{
			{start, Base, 1200, 1200}, {sent, Base, 1200, 0}, {acked(1200), Searching, 1200, 1500}, {sent, Searching, 1200, 0}, {acked(1500), Complete, 1500, 0},
			{tooBig(1400), Base, 1400, 1200},
			{sent, Base, 1400, 0},
			{acked(1400), Searching, 1400, 1400}, // it may have been sent before: a probe decides
		}},
		{"an error cannot raise", always, []step{
			{start, Base, 1200, 1200}, {sent, Base, 1200, 0}, {acked(1200), Searching, 1200, 1500},
			{tooBig(9000), Searching, 1200, 1500},
			{tooBig(1200), Complete, 1200, 0},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := NewMachine(tt.cfg)
			for i, s := range tt.steps {
				s.do(m, at(0))
				probe, ok := m.Probe()
				if !ok {
					probe = 0
				}
				if m.State() != s.state || m.MTU() != s.mtu || probe != s.probe {
					t.Errorf("step %d: %v, MTU %d, probe %d; want %v, %d, %d", i, m.State(), m.MTU(), probe, s.state, s.mtu, s.probe)
				}
			}
		})
	}
}

func TestPathGrowsBack(t *testing.T) {
	m := NewMachine(Config{Mode: Always})
	var now time.Duration
	m.Start(at(now), 0)
	walk(m, &now, time.Minute, 1300, false)
	if m.MTU() > 1300 {
		t.Fatal(m.MTU())
	}
	walk(m, &now, 12*time.Minute, 1500, false)
	if m.MTU() != 1500 {
		t.Errorf("MTU %d after RaiseInterval, want 1500", m.MTU())
	}
}

func TestKnownMTU(t *testing.T) {
	m := NewMachine(Config{Mode: Always})
	m.Start(at(0), 1400)
	if m.State() != Complete || m.MTU() != 1400 {
		t.Errorf("%v %d, want 1400 without a search", m.State(), m.MTU())
	}
	m = NewMachine(Config{Mode: Always})
	m.Start(at(0), 90)
	if m.State() != Base {
		t.Errorf("%v: an absurd value was taken", m.State())
	}
}

func TestLinkMTUChanges(t *testing.T) {
	m := NewMachine(Config{Mode: Always})
	var now time.Duration
	m.Start(at(now), 0)
	walk(m, &now, time.Minute, 9000, false)
	m.SetMax(at(now), 1300)
	if m.MTU() != 1300 {
		t.Errorf("MTU %d on a link of 1300", m.MTU())
	}
	m.SetMax(at(now), 9000)
	walk(m, &now, 2*time.Minute, 9000, false)
	if m.MTU() != 9000 {
		t.Errorf("MTU %d on a link of 9000", m.MTU())
	}
}

func TestFallback(t *testing.T) {
	type step struct {
		timedOut, acked, want uint32
	}
	for _, tt := range []struct {
		name  string
		mode  Mode
		steps []step
	}{
		{"small after a time-out", OnBlackHole, []step{{0, 0, 1500}, {1500, 0, 552}, {1500, 0, 552}, {552, 0, 552}}},
		{"back when something arrives", OnBlackHole, []step{{1500, 0, 552}, {0, 552, 1500}}},
		{"from Base", Always, []step{{1200, 0, 552}, {0, 552, 1200}}},
		{"off", Off, []step{{1500, 0, 1500}, {1500, 0, 1500}}},
		{"small packets", OnBlackHole, []step{{600, 0, 1500}, {600, 0, 1500}}},
	} {
		m := NewMachine(Config{Mode: tt.mode})
		m.Start(at(0), 0)
		for i, s := range tt.steps {
			if s.timedOut != 0 {
				m.TimedOut(at(0), s.timedOut)
			}
			if s.acked != 0 {
				m.Acked(at(0), s.acked)
			}
			if got := m.Fallback(); got != s.want {
				t.Errorf("%s, step %d: %d, want %d", tt.name, i, got, s.want)
			}
		}
	}
}

// TestLinkBelowTheLeast: the link's MTU counts more than Min, and Base comes back with the link.
func TestLinkBelowTheLeast(t *testing.T) {
	m := NewMachine(Config{Mode: Always, Max: 1500})
	m.SetMax(at(0), 500)
	if m.MTU() != 500 {
		t.Errorf("MTU %d on a link of 500", m.MTU())
	}
	m.SetMax(at(0), 1500)
	if m.MTU() != 1200 || m.Config().Min != 552 {
		t.Errorf("MTU %d, Min %d on a link of 1500", m.MTU(), m.Config().Min)
	}
}

func TestFlowAllocatesNothing(t *testing.T) {
	c := New(stopped{}, Options{})
	f := c.Flow(dest4, 1500, Config{Mode: Always})
	f.Start()
	if n := testing.AllocsPerRun(100, func() {
		f.MTU()
		if _, ok := f.Probe(); ok {
			f.ProbeSent()
		}
		f.Acked(1200)
		f.Lost(1300)
		f.TimedOut(1300)
		f.Fallback()
		f.ProbeLost()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
