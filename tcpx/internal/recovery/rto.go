package recovery

import "time"

// RTO is the estimator of RFC 6298. Its zero value has no sample yet.
type RTO struct {
	// SRTT and RTTVar are the smoothed round-trip time and its variation, 0 before the first sample.
	SRTT, RTTVar time.Duration
}

// Sample takes one round-trip measurement (RFC 6298 §2.2, §2.3). With several samples per round trip the gains shrink, so that the estimate keeps its
// memory of about one window (RFC 7323 appendix G): expected is the number of samples per round trip, at least 1.
func (e *RTO) Sample(rtt time.Duration, expected int) {
	rtt = max(rtt, 1)
	if e.SRTT == 0 {
		e.SRTT, e.RTTVar = rtt, rtt/2
		return
	}
	n := time.Duration(max(expected, 1))
	dev := e.SRTT - rtt
	if dev < 0 {
		dev = -dev
	}
	e.RTTVar += (dev - e.RTTVar) / (4 * n)
	e.SRTT += (rtt - e.SRTT) / (8 * n)
}

// Timeout returns SRTT + max(4*RTTVAR, floor), at most ceiling; initial before the first sample. RFC 6298 floors the sum at 1 s. Flooring the variance
// instead, as all stacks in use do, keeps a constant RTT from firing the timer early while RTTVAR decays to nothing.
func (e *RTO) Timeout(initial, floor, ceiling time.Duration) time.Duration {
	if e.SRTT == 0 {
		return min(initial, ceiling)
	}
	return min(e.SRTT+max(4*e.RTTVar, floor), ceiling)
}

// minRTTWindow is how long a minimum is kept, as in Linux and BBR.
const minRTTWindow = 5 * time.Minute

// MinRTT is a windowed minimum of round-trip times. It keeps the best sample and, so that the window's end does not leave it with nothing, the best of the
// second half.
type MinRTT struct {
	best, next       time.Duration
	bestAt, nextFrom time.Duration
}

// Update takes a sample at now.
func (m *MinRTT) Update(rtt, now time.Duration) {
	rtt = max(rtt, 1)
	if m.best == 0 || rtt <= m.best {
		m.best, m.bestAt = rtt, now
		m.next, m.nextFrom = rtt, now
		return
	}
	if rtt < m.next || m.next == m.best && now-m.nextFrom > minRTTWindow/2 {
		m.next, m.nextFrom = rtt, now
	}
	if now-m.bestAt > minRTTWindow {
		m.best, m.bestAt = m.next, m.nextFrom
		m.next, m.nextFrom = rtt, now
	}
	if now-m.bestAt > minRTTWindow {
		m.best, m.bestAt = rtt, now
	}
}

// Get returns the minimum, 0 before the first sample.
func (m *MinRTT) Get() time.Duration { return m.best }
