package tcb

import "fmt"

// verify checks what must hold of a connection between any two calls.
func verify(t *TCB) error {
	if t.IllegalTransitions() != 0 {
		return fmt.Errorf("illegal transition into %v", t.state)
	}
	if t.state == StateClosed {
		if t.Deadline() != 0 {
			return fmt.Errorf("a timer runs in CLOSED: %v", t.timers)
		}
		if t.sndBuf.len != 0 || t.reasm.cost() != 0 || t.sender != nil {
			return fmt.Errorf("CLOSED holds %d octets to send, %d out of order, a sender: %t", t.sndBuf.len, t.reasm.bytes, t.sender != nil)
		}
		return nil
	}
	if t.sndNxt.Less(t.sndUna) {
		return fmt.Errorf("SND.NXT %d before SND.UNA %d", t.sndNxt, t.sndUna)
	}
	if t.rcvAdv.Less(t.rcvNxt) {
		return fmt.Errorf("the advertised edge %d is before RCV.NXT %d", t.rcvAdv, t.rcvNxt)
	}
	if synchronized.has(t.state) && t.rcvNxt.Less(t.lastAckSent) {
		return fmt.Errorf("acknowledged %d, RCV.NXT is %d", t.lastAckSent, t.rcvNxt)
	}
	out := uint64(0)
	if t.sender != nil {
		if err := t.rtx.Verify(); err != nil {
			return err
		}
		if t.ctl.Cwnd != 0 && t.ctl.Cwnd < uint64(t.mss) {
			return fmt.Errorf("cwnd %d below one segment of %d", t.ctl.Cwnd, t.mss)
		}
		out = t.rtx.Outstanding()
	}
	if synchronized.has(t.state) && t.state != StateTimeWait && out != uint64(t.sndNxt-t.sndUna) {
		return fmt.Errorf("%d octets in the queue, SND.NXT-SND.UNA is %d", out, t.sndNxt-t.sndUna)
	}
	if t.Early() && out != uint64(t.sndNxt-t.sndUna-1) {
		return fmt.Errorf("%d octets in the queue of an early connection, SND.NXT-SND.UNA-1 is %d", out, t.sndNxt-t.sndUna-1)
	}
	if t.outstanding() && !t.armed(timerRTO) && !t.armed(timerProbe) {
		return fmt.Errorf("data outstanding and no timer")
	}
	if mayTransmit.has(t.state) && !t.outstanding() && (t.unsent() > 0 || t.has(flagFinQueued) && !t.has(flagFinSent)) &&
		!t.armed(timerPersist) && !t.armed(timerLink) && !t.armed(timerPace) {
		return fmt.Errorf("%d octets to send, nothing outstanding and no timer", t.unsent())
	}
	if err := verifyReassembly(&t.reasm); err != nil {
		return err
	}
	if n := len(t.reasm.pieces); n > 0 && !t.rcvNxt.Less(t.reasm.pieces[0].hi) && t.reasm.pieces[0].lo != t.reasm.pieces[0].hi {
		return fmt.Errorf("text up to %d is out of order, RCV.NXT is %d", t.reasm.pieces[0].hi, t.rcvNxt)
	}
	return nil
}

// verifyReassembly checks that the pieces are sorted, apart, and as long as they say.
func verifyReassembly(r *reassembly) error {
	bytes, parts := 0, 0
	for i := range r.pieces {
		x := &r.pieces[i]
		if x.hi.Less(x.lo) || int(x.buf.Size()) != x.hi.Sub(x.lo) {
			return fmt.Errorf("piece %d from %d to %d holds %d octets", i, x.lo, x.hi, x.buf.Size())
		}
		if i > 0 && !r.pieces[i-1].hi.Less(x.lo) {
			return fmt.Errorf("piece %d starts at %d, the one before ends at %d", i, x.lo, r.pieces[i-1].hi)
		}
		bytes += x.hi.Sub(x.lo)
		parts += x.parts
	}
	if bytes != r.bytes || parts != r.parts {
		return fmt.Errorf("%d octets in %d parts out of order, counted as %d in %d", bytes, parts, r.bytes, r.parts)
	}
	return nil
}
