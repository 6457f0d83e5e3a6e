package recovery

// PRR is Proportional Rate Reduction (RFC 9937), all in bytes. It spreads the reduction of one episode over its ACKs.
type PRR struct {
	delivered, out, recoverFS, ssthresh uint64
}

// Begin starts an episode (RFC 9937 §6). recoverFS is RecoverFS: what was outstanding, less what had been SACKed before the ACK that started it.
func (p *PRR) Begin(recoverFS, ssthresh uint64) {
	*p = PRR{recoverFS: max(recoverFS, 1), ssthresh: ssthresh}
}

// Sent counts bytes sent during the episode.
func (p *PRR) Sent(n uint64) { p.out += n }

// Cwnd returns the window for one ACK that delivered bytes with inFlight after it (RFC 9937 §6). safe tells that SND.UNA advanced and that no further loss was
// found.
func (p *PRR) Cwnd(delivered, inFlight, mss uint64, safe bool) uint64 {
	p.delivered += delivered
	var n uint64
	if inFlight > p.ssthresh {
		n = sub((p.delivered*p.ssthresh+p.recoverFS-1)/p.recoverFS, p.out)
	} else {
		n = max(sub(p.delivered, p.out), delivered)
		if safe {
			n += mss
		}
		n = min(p.ssthresh-inFlight, n)
	}
	if p.out == 0 {
		n = max(n, mss) // the fast retransmit, a whole segment
	}
	return inFlight + n
}

func sub(a, b uint64) uint64 {
	if a < b {
		return 0
	}
	return a - b
}
