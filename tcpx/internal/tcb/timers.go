package tcb

// timer names one of a connection's deadlines.
type timer uint8

const (
	// timerReorder is RACK's reordering timer (RFC 8985 §6.2).
	timerReorder timer = iota
	// timerProbe is the loss probe of RFC 8985 §7. Both come before the retransmission timer: where they are due with it they go in its place (§8).
	timerProbe
	// timerRTO is the retransmission timer (RFC 6298), for SYN and FIN as well.
	timerRTO
	// timerPersist probes a closed window and overrides sender SWS avoidance (RFC 9293 §3.8.6.1).
	timerPersist
	// timerDelayedACK ends the delay of an ACK.
	timerDelayedACK
	// timerKeepAlive (RFC 9293 §3.8.4).
	timerKeepAlive
	// timerWait is 2MSL in TIME-WAIT, the orphan's limit in FIN-WAIT-2, and TCP_DEFER_ACCEPT in SYN-RECEIVED.
	timerWait
	// timerPace is when the pacer lets the next segment go.
	timerPace
	// timerLink tries again what the link refused.
	timerLink
	numTimers
)

// timers holds the instants at which deadlines are due, 0 for those not set.
type timers [numTimers]Time

func (t *TCB) arm(k timer, at Time)      { t.timers[k] = at }
func (t *TCB) disarm(k timer)            { t.timers[k] = 0 }
func (t *TCB) armed(k timer) bool        { return t.timers[k] != 0 }
func (t *TCB) due(k timer, at Time) bool { return t.timers[k] != 0 && t.timers[k] <= at }

func (t *TCB) stopTimers() { t.timers = timers{} }

// Deadline returns when OnTimer is to be called next, 0 if never.
func (t *TCB) Deadline() Time {
	var first Time
	for _, d := range t.timers {
		if d != 0 && (first == 0 || d < first) {
			first = d
		}
	}
	return first
}
