package recovery

import (
	"math/rand/v2"
	"testing"
)

// prrRun is one fast recovery with a segment of 1 byte, so that all numbers are segments: each ACK delivers one segment, and what the window allows leaves
// at once.
type prrRun struct {
	p              PRR
	flight, sent   uint64
	cwnd, ssthresh uint64
}

// start begins an episode in which lost of fs outstanding segments are lost and the ACK that starts it delivers delivered.
func (r *prrRun) start(fs, ssthresh, lost, delivered uint64) {
	r.ssthresh = ssthresh
	r.p.Begin(fs, ssthresh)
	r.flight = fs - lost
	r.ack(delivered, false)
}

func (r *prrRun) ack(delivered uint64, safe bool) {
	r.flight -= min(delivered, r.flight)
	r.cwnd = r.p.Cwnd(delivered, r.flight, 1, safe)
	n := sub(r.cwnd, r.flight)
	r.p.Sent(n)
	r.sent += n
	r.flight += n
}

// TestPRROneLoss is the usual case: one of 20 segments is lost and the window is halved. The reduction is spread over the round trip, every second ACK
// sends, so that as many segments as ssthresh leave and as many are in flight at the end (RFC 9937 §8).
func TestPRROneLoss(t *testing.T) {
	for _, c := range []struct{ flight, ssthresh uint64 }{{20, 10}, {100, 50}, {100, 70}, {10, 7}, {11, 5}} {
		var r prrRun
		const sackedBefore = 2 // by the duplicates before the third
		fs := c.flight - sackedBefore
		r.start(fs, c.ssthresh, 1, 1)
		var gaps []uint64
		last := uint64(0)
		for i := uint64(1); r.p.delivered < fs-1; i++ {
			before := r.sent
			r.ack(1, false)
			if r.sent-before > 1 {
				t.Errorf("%d of %d: %d segments left on one ACK", c.ssthresh, c.flight, r.sent-before)
			}
			if r.sent > before {
				gaps = append(gaps, i-last)
				last = i
			}
		}
		r.ack(1, true)
		if r.sent+1 < c.ssthresh || r.sent > c.ssthresh+1 {
			t.Errorf("%d of %d: sent %d segments", c.ssthresh, c.flight, r.sent)
		}
		if r.flight+1 < c.ssthresh || r.flight > c.ssthresh+1 {
			t.Errorf("%d of %d: ends with %d segments in flight", c.ssthresh, c.flight, r.flight)
		}
		for _, g := range gaps[1:] {
			if limit := (fs+c.ssthresh-1)/c.ssthresh + 1; g > limit {
				t.Errorf("%d of %d: %d ACKs without a segment", c.ssthresh, c.flight, g)
			}
		}
	}
}

// TestPRRTable is RFC 9937 §6.2, branch by branch.
func TestPRRTable(t *testing.T) {
	for _, c := range []struct {
		name                      string
		p                         PRR
		delivered, inFlight, want uint64
		safe                      bool
	}{
		{"proportional: half of what was delivered", PRR{delivered: 8, out: 4, recoverFS: 20, ssthresh: 10}, 2, 12, 12 + 1, false},
		{"proportional: rounded up", PRR{delivered: 8, out: 4, recoverFS: 20, ssthresh: 10}, 1, 12, 12 + 1, false},
		{"proportional: more was sent than is due", PRR{delivered: 8, out: 9, recoverFS: 20, ssthresh: 10}, 1, 12, 12, false},
		{"conservative bound: what was delivered", PRR{delivered: 3, out: 4, recoverFS: 20, ssthresh: 10}, 1, 5, 5 + 1, false},
		{"conservative bound: catching up", PRR{delivered: 9, out: 4, recoverFS: 20, ssthresh: 10}, 1, 2, 2 + 6, false},
		{"slow start bound: one more", PRR{delivered: 3, out: 4, recoverFS: 20, ssthresh: 10}, 1, 5, 5 + 2, true},
		{"up to ssthresh and no further", PRR{delivered: 9, out: 4, recoverFS: 20, ssthresh: 10}, 3, 8, 10, true},
		{"at ssthresh", PRR{delivered: 9, out: 4, recoverFS: 20, ssthresh: 10}, 3, 10, 10, true},
		{"the fast retransmit leaves even so", PRR{recoverFS: 20, ssthresh: 10}, 0, 19, 19 + 1, false},
	} {
		if got := c.p.Cwnd(c.delivered, c.inFlight, 1, c.safe); got != c.want {
			t.Errorf("%s: cwnd %d, want %d", c.name, got, c.want)
		}
	}
}

// TestPRRBounds checks for random histories that PRR never lets out more than was delivered beyond one segment for each safe ACK and the fast retransmit, and
// never raises the flight above both its former size and ssthresh.
func TestPRRBounds(t *testing.T) {
	for seed := range uint64(500) {
		rng := rand.New(rand.NewPCG(seed, 4))
		fs := 2 + rng.Uint64N(200)
		var r prrRun
		r.start(fs, 1+rng.Uint64N(fs), rng.Uint64N(fs), rng.Uint64N(4))
		safes := uint64(1)
		for range 400 {
			safe := rng.IntN(2) == 0
			before := r.flight
			d := 1 + rng.Uint64N(3)
			if r.flight < d {
				break
			}
			if safe {
				safes++
			}
			r.ack(d, safe)
			if r.flight > max(before, r.ssthresh) {
				t.Fatalf("seed %d: an ACK took the flight from %d to %d, ssthresh is %d", seed, before, r.flight, r.ssthresh)
			}
			if r.sent > r.p.delivered+safes {
				t.Fatalf("seed %d: sent %d, delivered %d, %d safe ACKs", seed, r.sent, r.p.delivered, safes)
			}
		}
	}
}
