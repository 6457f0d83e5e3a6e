package testbed

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/plumbline/plumbline/linkendpoints/emulated"
)

// These are the numbers of the deviations.

// measureRegrowth finds the time from the first reduction until the window is what it was. The window at the loss must be that which the expected time is for.
func measureRegrowth(r *recording, window float64) (float64, error) {
	reduced := r.reductions()
	if len(reduced) != 1 {
		return 0, fmt.Errorf("%d reductions, want one", len(reduced))
	}
	at := reduced[0]
	before := r.windows[at-1].cwnd
	if before < 0.98*window || before > 1.02*window {
		return 0, fmt.Errorf("the loss was found at a window of %.0f segments, want %.0f", before, window)
	}
	// During recovery the window is still on its way down.
	for _, w := range r.windows[at:] {
		if w.at > r.windows[at].at+time.Second && w.cwnd >= before {
			return (w.at - r.windows[at].at).Seconds(), nil
		}
	}
	return 0, errors.New("the window did not come back")
}

// measureEpoch finds the time from the second recovery's end, a round trip after its begin, until the window is at the W_max that fast convergence makes of the window before it (RFC 9438 §4.7), as a
// multiple of K for the window that the stage begins with.
func measureEpoch(r *recording) (float64, error) {
	reduced := r.reductions()
	if len(reduced) != 2 {
		return 0, fmt.Errorf("%d reductions, want two", len(reduced))
	}
	first, second := r.windows[reduced[0]-1].cwnd, r.windows[reduced[1]-1].cwnd
	if second > 0.95*first {
		return 0, fmt.Errorf("the second loss was found at a window of %.0f segments, the first at %.0f: no fast convergence", second, first)
	}
	at := r.windows[reduced[1]]
	const beta, c = 0.7, 0.4
	wMax := second * (1 + beta) / 2
	k := math.Cbrt((wMax - at.ssthresh) / c)
	for _, w := range r.windows[reduced[1]:] {
		// During recovery the window is still on its way down.
		if w.at > at.at+time.Second && w.cwnd >= wMax {
			return (w.at - at.at - epochRTT).Seconds() / k, nil
		}
	}
	return 0, errors.New("the window did not come back")
}

// measureFriendly compares the window with itself 20 round trips later, from where it is two segments larger than before the loss.
func measureFriendly(r *recording) (float64, error) {
	reduced := r.reductions()
	if len(reduced) != 1 {
		return 0, fmt.Errorf("%d reductions, want one", len(reduced))
	}
	const roundTrips = 20
	at := r.windows[reduced[0]].at
	before := r.windows[reduced[0]-1].cwnd
	for _, w := range r.windows[reduced[0]:] {
		if w.at < at+time.Second/5 || w.cwnd < before+2 {
			continue
		}
		if w.at+roundTrips*friendlyRTT > r.now() {
			break
		}
		later, err := r.windowAt(w.at + roundTrips*friendlyRTT)
		return (later.cwnd - w.cwnd) / roundTrips, err
	}
	return 0, errors.New("the window did not grow for long enough")
}

// measureDelivered is the goodput of the second half, as a share of what the link carries beside headers.
func measureDelivered(r *recording) (float64, error) {
	var half, all uint32
	for _, p := range r.packets {
		if p.received && int32(p.ack-all) > 0 {
			all = p.ack
			if p.at < stallDuration/2 {
				half = p.ack
			}
		}
	}
	ceiling := float64(stallRate.Bytes(stallDuration/2)) * SegmentPayload / emulated.DefaultMTU
	return float64(all-half) / ceiling, nil
}

func measureIdle(r *recording) (float64, error) {
	if len(r.reductions()) == 0 {
		return 0, errors.New("nothing was lost before the pause")
	}
	growth, last := 0.0, r.windows[0]
	for _, w := range r.windows {
		if w.at > pauseEnds {
			growth = max(growth, w.cwnd-last.cwnd)
		}
		last = w
	}
	if last.at <= pauseEnds {
		return 0, errors.New("the window did not change after the pause")
	}
	return growth, nil
}

func measureSecondRTO(r *recording) (float64, error) {
	first, last := 0.0, 0.0
	for _, w := range r.windows {
		if w.at < outageAt || w.at >= outageEnds {
			continue
		}
		// The first time-out takes the window to one segment.
		if first == 0 && w.cwnd < 1.5 {
			first = w.ssthresh
		}
		last = w.ssthresh
	}
	timeouts := 0
	for i, p := range r.packets {
		if p.at > outageAt && p.at < outageEnds && p.again && (i == 0 || r.packets[i-1].at < p.at) {
			timeouts++
		}
	}
	if first == 0 || timeouts < 3 {
		return 0, fmt.Errorf("%d retransmissions by timer in the outage and a threshold of %v, want several", timeouts, first)
	}
	return last / first, nil
}

func measureRetransmissions(r *recording) (float64, error) {
	n := 0
	for _, p := range r.packets {
		if p.again {
			n++
		}
	}
	return float64(n), nil
}

// measureRecoveryVolume counts what leaves in recovery, without the ACK that ends it.
func measureRecoveryVolume(r *recording) (float64, error) {
	from, to, err := r.recovery()
	if err != nil {
		return 0, err
	}
	w, err := r.windowAt(from)
	if err != nil {
		return 0, err
	}
	if w.ssthresh == 0 {
		return 0, errors.New("recovery began without a threshold")
	}
	sent := 0.0
	for _, p := range r.packets {
		if !p.received && p.at >= from && p.at < to {
			sent += float64(p.length) / SegmentPayload
		}
	}
	return sent - w.ssthresh, nil
}

func measureSilence(r *recording) (float64, error) {
	from, to, err := r.recovery()
	if err != nil {
		return 0, err
	}
	last, longest := from, time.Duration(0)
	for _, p := range r.packets {
		if !p.received && p.at >= from && p.at < to {
			longest = max(longest, p.at-last)
			last = p.at
		}
	}
	return milliseconds(max(longest, to-last)), nil
}

func measureSpurious(r *recording) (float64, error) {
	before, err := r.windowAt(spikeAt)
	if err != nil {
		return 0, err
	}
	low := before.cwnd
	for _, w := range r.windows {
		if w.at > spikeAt && w.at < spikeAt+time.Second {
			low = min(low, w.cwnd)
		}
	}
	if low > before.cwnd/2 {
		return 0, fmt.Errorf("the window of %.0f segments never fell below %.0f: no time-out", before.cwnd, low)
	}
	after, err := r.windowAt(spikeAt + time.Second)
	return after.cwnd / before.cwnd, err
}

func measureLastWindow(r *recording) (float64, error) {
	if len(r.windows) == 0 {
		return 0, errors.New("no window was seen")
	}
	return r.windows[len(r.windows)-1].cwnd, nil
}

// measureByteCounting compares the growth of the window with what was acknowledged, where the first is largest beside the second.
func measureByteCounting(r *recording) (float64, error) {
	if len(r.windows) == 0 {
		return 0, errors.New("no window was seen")
	}
	largest, acked := 0.0, 0
	for _, p := range r.packets {
		if !p.received || p.ack == 0 || int(p.ack) <= acked {
			continue
		}
		acked = int(p.ack)
		w, err := r.windowAt(p.at)
		if err != nil {
			return 0, err
		}
		largest = max(largest, (w.cwnd-r.windows[0].cwnd)*SegmentPayload/float64(acked))
	}
	if acked == 0 {
		return 0, errors.New("nothing was acknowledged")
	}
	return largest, nil
}

// measureDSACK compares the reports with the duplicates that the path made of data.
func measureDSACK(r *recording) (float64, error) {
	reports := 0
	for _, p := range r.packets {
		if p.dsack {
			reports++
		}
	}
	if r.duplicates == 0 {
		return 0, errors.New("nothing arrived twice")
	}
	return float64(reports) / float64(r.duplicates), nil
}

// measureBurst counts segments of one instant after the pause, which is shorter than a time-out: the window stands.
func measureBurst(r *recording) (float64, error) {
	var at time.Duration
	burst, largest := 0, 0
	for _, p := range r.packets {
		if p.received || p.at < burstAt {
			if !p.received && p.at > burstAt-50*time.Millisecond {
				return 0, errors.New("no pause before the burst")
			}
			continue
		}
		if p.at != at {
			at, burst = p.at, 0
		}
		burst++
		largest = max(largest, burst)
	}
	if largest == 0 {
		return 0, errors.New("nothing was sent after the pause")
	}
	return float64(largest), nil
}
