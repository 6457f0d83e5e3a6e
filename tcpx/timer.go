package tcpx

import "github.com/plumbline/plumbline/tcpx/internal/tcb"

// arm makes the timer fire no later than the core's next deadline. An armed timer is moved only if it would fire too late: most deadlines, the
// retransmission time-out above all, move away with every ACK, and a timer that fires too early costs less than moving it each time. The caller holds e.mu.
func (e *Endpoint) arm() {
	deadline := e.tcb.Deadline()
	if deadline == 0 && e.armed == 0 {
		e.timer = nil // An idle connection needs none.
	}
	if deadline == 0 || (e.armed != 0 && e.armed <= deadline) {
		return
	}
	e.armed = deadline
	wait := max(deadline-e.proto.now(), 0)
	if e.timer == nil {
		e.timer = e.proto.stack.Clock().AfterFunc(wait, e.onTimer)
		return
	}
	e.timer.Stop()
	e.timer.Reset(wait)
}

// onTimer runs when the timer fires.
func (e *Endpoint) onTimer() {
	e.lock()
	e.armed = 0
	switch e.phase {
	case phaseDeferred:
		_, _ = e.start(noText{})
	case phaseOpen:
		now := e.proto.now()
		if d := e.tcb.Deadline(); d != 0 && d <= now {
			e.tcb.OnTimer(now)
			e.collect()
		}
	}
	e.leave()
}

// disarm stops the timer for good. The caller holds e.mu.
func (e *Endpoint) disarm() {
	if e.timer != nil {
		e.timer.Stop()
		e.timer = nil
	}
	e.armed = 0
}

// collect takes the core's events. It is called after every call into the core that may lead to CLOSED, so that the endpoint has let go of its
// addresses before anything else happens. The caller holds e.mu.
func (e *Endpoint) collect() {
	ev := e.tcb.TakeEvents()
	if ev == 0 {
		return
	}
	e.events |= ev
	if ev&tcb.EventInboundHole != 0 {
		e.inboundHole()
	}
	if ev&(tcb.EventClosed|tcb.EventTimeWaitSYN) != 0 {
		e.cleanup()
	}
}
