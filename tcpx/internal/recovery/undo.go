package recovery

import "github.com/plumbline/plumbline/tcpx/internal/seq"

// Undo gathers proof that the retransmissions of one episode were not needed: an ACK that answers the original (Eifel, RFC 3522), or DSACKs for every one of
// them (RFC 3708). The third, F-RTO, is a matter of what to send and not kept here.
type Undo struct {
	// first is the sequence number of the first retransmission, ts the timestamp that it carried.
	first seq.Num
	ts    uint32
	// pending is what was retransmitted and not reported as a duplicate yet.
	pending ranges
	// until is SND.NXT when the episode ended: once more than that is acknowledged, no DSACK is about the episode any more.
	until seq.Num

	active, ended bool
	any           bool // something was retransmitted
	answered      bool // the ACK of the first retransmission has come, so that Eifel has decided
	ambiguous     bool // DSACKs cannot prove anything
}

// maxPending bounds the memory of what may be undone: an episode with more holes than that was hardly spurious.
const maxPending = 1024

// Begin starts an episode.
func (u *Undo) Begin() {
	u.pending.clear()
	*u = Undo{pending: u.pending, active: true}
}

// End tells that the episode is over while everything up to nxt has been sent. Late DSACKs still count.
func (u *Undo) End(nxt seq.Num) { u.ended, u.until = true, nxt }

// Forget gives up, or notes that the episode was undone.
func (u *Undo) Forget() { u.active = false }

// Advanced notes that SND.UNA is una.
func (u *Undo) Advanced(una seq.Num) {
	if u.ended && u.until.Less(una) {
		u.active = false
	}
}

// Retransmitted notes that the text [lo, hi) was sent again with timestamp ts.
func (u *Undo) Retransmitted(lo, hi seq.Num, ts uint32) {
	if !u.active {
		return
	}
	if !u.any {
		u.any, u.first, u.ts = true, lo, ts
	}
	if lo == hi || u.ambiguous {
		return // FIN alone: no DSACK tells of it
	}
	if u.pending.overlaps(lo, hi) || len(u.pending.spans()) == maxPending {
		// Sent more than once: a DSACK might be about either (RFC 3708 §3).
		u.ambiguous = true
		return
	}
	u.pending.add(lo, hi)
}

// DSACK notes that the peer has received [lo, hi) twice. It reports whether every retransmission is now known to have been a duplicate.
func (u *Undo) DSACK(lo, hi seq.Num) bool {
	if !u.active || !u.any || u.ambiguous || !u.pending.overlaps(lo, hi) {
		return false
	}
	u.pending.remove(lo, hi)
	return u.pending.empty()
}

// Original reports whether the ACK up to una with the echo ecr answers the original of the first retransmission (RFC 3522 §3.2): the first ACK that covers
// it echoes an earlier timestamp. Later ones prove nothing. ecr is 0 if the ACK has no timestamps.
func (u *Undo) Original(una seq.Num, ecr uint32) bool {
	if !u.active || !u.any || u.answered || una.Leq(u.first) {
		return false
	}
	u.answered = true
	return ecr != 0 && int32(ecr-u.ts) < 0
}
