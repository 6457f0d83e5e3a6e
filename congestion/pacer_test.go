package congestion_test

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// TestPacerIsExact sends for a long time and compares each departure with start + bytes/rate in exact arithmetic: no more than 1 ns off, for ever.
func TestPacerIsExact(t *testing.T) {
	for _, c := range []struct{ rate, size, quantum uint64 }{
		{1_250_000, 1448, 0}, {999_983, 1448, 0}, {7, 3, 0}, {12_500_000_000, 65160, 0}, {1_000_003, 1000, 4000}, {3_333_333, 536, 5000},
	} {
		t.Run(fmt.Sprintf("%d byte/s of %d", c.rate, c.size), func(t *testing.T) {
			var p congestion.Pacer
			p.SetRate(c.rate)
			p.SetQuantum(c.quantum)
			const start = 17 * time.Millisecond
			now, sent, burst := start, uint64(0), uint64(0)
			for range 20000 {
				if next := p.NextSend(now); next > now {
					want := new(big.Int).SetUint64(sent)
					want.Mul(want, big.NewInt(1e9)).Div(want, new(big.Int).SetUint64(c.rate))
					if diff := int64(next-start) - want.Int64(); diff < -1 || diff > 1 {
						t.Fatalf("after %d bytes the next departure is %d ns off", sent, diff)
					}
					now, burst = next, 0
				}
				p.OnSent(now, c.size)
				sent += c.size
				if burst += c.size; burst > max(c.quantum, c.size) {
					t.Fatalf("a burst of %d bytes, the quantum is %d", burst, c.quantum)
				}
			}
		})
	}
}

func TestPacerUnpaced(t *testing.T) {
	var p congestion.Pacer
	for range 10 {
		p.OnSent(5, 1000)
		if at := p.NextSend(5); at != 5 {
			t.Fatalf("without a rate the next departure is at %d", at)
		}
	}
}

func TestPacerMaxRate(t *testing.T) {
	for _, c := range []struct{ rate, limit, want uint64 }{{0, 0, 0}, {5, 0, 5}, {0, 7, 7}, {5, 7, 5}, {9, 7, 7}} {
		var p congestion.Pacer
		p.SetRate(c.rate)
		p.SetMaxRate(c.limit)
		if p.Rate() != c.want {
			t.Errorf("rate %d with the limit %d is %d, want %d", c.rate, c.limit, p.Rate(), c.want)
		}
	}
}

// TestPacerNewRateShortensTheGap checks that a rate rise is not held up by a gap of the old rate.
func TestPacerNewRateShortensTheGap(t *testing.T) {
	var p congestion.Pacer
	p.SetRate(1)
	p.OnSent(0, 1000)
	if at := p.NextSend(0); at != 1000*time.Second {
		t.Fatalf("next at %v, want 1000 s", at)
	}
	p.SetRate(1_000_000)
	if at := p.NextSend(0); at != ms {
		t.Fatalf("next at %v after the rise, want 1 ms", at)
	}
	p.SetRate(100_000)
	if at := p.NextSend(0); at != 10*ms {
		t.Fatalf("next at %v after the fall, want 10 ms", at)
	}
}

func TestPacerLateTimer(t *testing.T) {
	for _, c := range []struct {
		name string
		late time.Duration
		want congestion.Time // of the departure after the late one, which was due at 1 ms
	}{
		{"on time", 0, 2 * ms},
		{"a little late is made up for", 300 * time.Microsecond, 2 * ms},
		{"late by a gap: soon, but never at the same instant", ms, 2*ms + 1},
		{"very late: only one gap is made up for", 50 * ms, 51*ms + 1},
	} {
		var p congestion.Pacer
		p.SetRate(1_000_000)
		p.OnSent(0, 1000)
		at := p.NextSend(0) + c.late
		p.OnSent(at, 1000)
		if next := p.NextSend(at); next != c.want {
			t.Errorf("%s: next at %v, want %v", c.name, next, c.want)
		}
	}
}

func TestPacerSilenceEarnsNothing(t *testing.T) {
	var p congestion.Pacer
	p.SetRate(1_000_000)
	p.OnSent(0, 1000)
	p.OnSent(time.Second, 1000) // nobody waited: there was nothing to send
	if next := p.NextSend(time.Second); next != time.Second+ms {
		t.Errorf("next at %v, want one gap later", next)
	}
}

func TestPacerChargesWhatLeavesEarly(t *testing.T) {
	var p congestion.Pacer
	p.SetRate(1_000_000)
	for range 4 {
		p.OnSent(0, 1000)
	}
	if next := p.NextSend(0); next != 4*ms {
		t.Errorf("after four packets at once the next is at %v, want 4 ms", next)
	}
}

func TestPacingRate(t *testing.T) {
	for _, c := range []struct {
		name    string
		control congestion.Control
		srtt    time.Duration
		want    uint64
	}{
		{"no estimate yet", congestion.Control{Cwnd: 10000, Ssthresh: congestion.MaxWindow}, 0, 0},
		{"slow start", congestion.Control{Cwnd: 10000, Ssthresh: congestion.MaxWindow}, 100 * ms, 200_000},
		{"congestion avoidance", congestion.Control{Cwnd: 10000, Ssthresh: 10000}, 100 * ms, 120_000},
		{"the algorithm's own", congestion.Control{Cwnd: 10000, PacingRate: 77}, 100 * ms, 77},
		{"an unlimited window", congestion.Control{Cwnd: congestion.MaxWindow, Ssthresh: congestion.MaxWindow}, 1, congestion.MaxRate},
	} {
		if got := congestion.PacingRate(c.control, c.srtt); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestSendQuantum(t *testing.T) {
	for _, c := range []struct{ rate, want uint64 }{{0, 2896}, {1_000_000, 2896}, {12_500_000, 12_500}, {1 << 40, 65536}} {
		if got := congestion.SendQuantum(c.rate, 1448); got != c.want {
			t.Errorf("quantum at %d byte/s: %d, want %d", c.rate, got, c.want)
		}
	}
}

func FuzzPacer(f *testing.F) {
	f.Add(uint64(1000), uint64(0), uint64(3000), uint64(1448), int64(5))
	f.Add(uint64(1)<<63, uint64(1), uint64(1)<<63, uint64(1)<<63, int64(-1))
	f.Fuzz(func(t *testing.T, rate, limit, quantum, size uint64, step int64) {
		var p congestion.Pacer
		p.SetRate(rate)
		p.SetMaxRate(limit)
		p.SetQuantum(quantum)
		now := congestion.Time(0)
		for i := range 50 {
			next := p.NextSend(now)
			if next < now {
				t.Fatalf("next departure %d is before now, %d", next, now)
			}
			if next-now > 1000*24*time.Hour {
				t.Fatalf("next departure in %v", next-now)
			}
			if i%3 == 0 {
				now = min(next, now+time.Duration(uint64(step)%1e12))
			}
			p.OnSent(now, size)
			if i%7 == 0 {
				p.SetRate(rate >> (i % 64))
			}
		}
	})
}

func BenchmarkPacer(b *testing.B) {
	var p congestion.Pacer
	p.SetRate(12_500_000)
	p.SetQuantum(2896)
	var now congestion.Time
	for b.Loop() {
		now = p.NextSend(now)
		p.OnSent(now, 1448)
	}
}
