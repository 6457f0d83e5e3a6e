package tcb

import (
	"math/rand/v2"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/cubic"
)

// Transmit implements Owner.
func (h *hostile) Transmit(s *Out) bool {
	if h.refuse {
		return false
	}
	if h.sent++; h.sent > 4000 {
		h.tb.Fatalf("one event made %d segments leave", h.sent)
	}
	text := s.Payload.Flatten()
	s.Payload.Release()
	h.checkOut(s, text)
	return true
}

// checkOut judges one outgoing segment.
func (h *hostile) checkOut(s *Out, text []byte) {
	tb := h.tb
	var o Options
	if !ParseOptions(s.Opts[:s.OptLen], &o) || s.OptLen%4 != 0 {
		tb.Fatalf("malformed options % x", s.Opts[:s.OptLen])
	}
	if (o.MSS != 0 || o.WScale != 0 || o.SACKPermitted) && !s.Flags.Has(SYN) {
		tb.Fatal("MUST-65: an option of SYN on another segment")
	}
	if s.Flags.Has(RST) {
		if len(text) > 0 {
			tb.Fatal("RST with text")
		}
		return
	}
	if h.state == StateSynSent != !s.Flags.Has(ACK) {
		tb.Fatalf("ACK bit is %v in %v", s.Flags.Has(ACK), h.state)
	}
	if s.Flags.Has(ACK) && s.Ack != h.rcvNxt {
		tb.Fatalf("acknowledges %d, RCV.NXT is %d", s.Ack, h.rcvNxt)
	}
	if h.has(flagTS) && !o.TS {
		tb.Fatal("RFC 7323 §3.2: a segment without timestamps")
	}
	if s.Flags.Has(SYN) {
		if s.Seq != h.iss || len(text) > 0 && (h.FastOpen == nil || h.state != StateSynSent || h.has(flagSynRetrans)) {
			tb.Fatal("SYN elsewhere than at ISS, or with text")
		}
		if len(text)+s.OptLen > int(h.mtuPayload) {
			tb.Fatalf("%d octets of text with SYN and %d of options with room for %d", len(text), s.OptLen, h.mtuPayload)
		}
		h.checkText(s, text)
		h.end = h.iss.Add(1 + max(len(text), h.end.Sub(h.iss)-1))
		return
	}
	if s.Seq.Less(h.sndUna-1) || h.sndNxt.Less(s.Seq) {
		tb.Fatalf("%v: SEQ %d is not between SND.UNA %d and SND.NXT %d", h.state, s.Seq, h.sndUna, h.sndNxt)
	}
	limit := min(int(h.peerMSS), int(h.mtuPayload))
	if h.wild {
		limit = int(h.peerMSS) // a probe, and what its loss repeats, is larger than the MTU in use
	}
	if min(len(text), s.MSS)+s.OptLen > max(limit, minPeerMSS) {
		tb.Fatalf("RFC 6691: %d octets of text and %d of options with an MSS of %d", len(text), s.OptLen, limit)
	}
	if len(text) > s.MSS && len(text) > h.params.GSOMax && !h.wild {
		tb.Fatalf("a unit of %d octets for a link that takes %d", len(text), h.params.GSOMax)
	}
	h.checkText(s, text)
	h.checkWindows(s, len(text))
	for i, b := range o.SACK[:o.NumSACK] {
		if !b.Left.Less(b.Right) || i > 0 && !h.rcvNxt.Less(b.Left) {
			tb.Fatalf("SACK block %d of %v, RCV.NXT is %d", i, o.SACK[:o.NumSACK], h.rcvNxt)
		}
		if h.rcvNxt.Less(b.Right) && !h.holds(b) {
			tb.Fatalf("SACK of %v, which is not held: block %d, RCV.NXT %d, DSACK %v, pieces %v", b, i, h.rcvNxt, h.dsack, h.reasm.pieces)
		}
	}
}

// checkText compares text with what was written.
func (h *hostile) checkText(s *Out, text []byte) {
	at := s.Seq - h.iss - 1
	if s.Flags.Has(SYN) {
		at = 0
	}
	for i, x := range text {
		if x != octet(at.Add(i)) {
			h.tb.Fatalf("octet %d of the stream was not written like this", at.Add(i))
		}
	}
}

// holds reports whether text of the block is held out of order.
func (h *hostile) holds(b Block) bool {
	for i := range h.reasm.pieces {
		if p := &h.reasm.pieces[i]; p.lo.Leq(b.Left) && b.Right.Leq(p.hi) {
			return true
		}
	}
	return false
}

// checkWindows: nothing new beyond the peer's window but a probe, and our own edge never moves left by more than scaling's rounding.
func (h *hostile) checkWindows(s *Out, n int) {
	end := s.Seq.Add(n)
	if s.Flags.Has(FIN) {
		end++
	}
	if h.end.Less(end) {
		edge := h.sndUna.Add(int(h.sndWnd))
		if h.Early() {
			edge++ // our SYN takes none of it
		}
		if edge.Less(end) && end != h.sndNxt+1 {
			h.tb.Fatalf("%v: sends up to %d, the peer's edge is %d, SND.NXT %d", h.state, end, edge, h.sndNxt)
		}
		h.end = end
	}
	edge := s.Ack.Add(int(s.Wnd) << h.rcvWScale)
	if h.rcvAdv.Less(edge) {
		h.tb.Fatalf("advertises up to %d, accepts up to %d", edge, h.rcvAdv)
	}
	if h.shown && edge.Leq(h.advertised.Add(-1<<h.rcvWScale)) {
		h.tb.Fatalf("SHLD-14: the edge moved from %d to %d", h.advertised, edge)
	}
	if !h.shown || h.advertised.Less(edge) {
		h.shown, h.advertised = true, edge
	}
}

// Count implements Owner.
func (h *hostile) Count(Counter, uint64) {}

// Rand implements Owner.
func (h *hostile) Rand() *rand.Rand { return h.rng }

// AnnouncedMSS implements Owner.
func (h *hostile) AnnouncedMSS() uint16 {
	if h.wild {
		return uint16(h.rng.Uint32())
	}
	return 1460
}

// PathMTU implements Owner.
func (h *hostile) PathMTU(limit int, _ bool) PathMTU {
	if h.wild {
		return &hostilePath{rng: h.rng, limit: limit}
	}
	return nil
}

// NewController implements Owner.
func (h *hostile) NewController() congestion.Controller { return cubic.New() }

// Budget implements Owner.
func (h *hostile) Budget(n int) Pressure {
	if h.held += n; h.held < 0 {
		h.tb.Fatalf("returned more memory than was reserved: %d", h.held)
	}
	return h.scarce
}

// check holds after every call.
func (h *hostile) check() {
	h.tb.Helper()
	if err := verify(&h.TCB); err != nil {
		h.tb.Fatalf("%v: %v", h.state, err)
	}
	if h.TakeEvents()&EventClosed != 0 {
		h.closed = true
	}
	if h.closed != (h.state == StateClosed) {
		h.tb.Fatalf("%v, told CLOSED: %v", h.state, h.closed)
	}
	if h.state == StateClosed {
		return
	}
	h.maxRcv, h.maxSnd = max(h.maxRcv, h.RcvBuf), max(h.maxSnd, h.SndBuf)
	if synchronized.has(h.state) {
		if h.lastAdv != 0 && h.rcvAdv.Less(h.lastAdv) {
			h.tb.Fatalf("RCV.NXT+RCV.WND moved from %d to %d", h.lastAdv, h.rcvAdv)
		}
		h.lastAdv = h.rcvAdv
	}
	unit := 1 << h.rcvWScale
	if n := h.rcvBuf.len(); n > max(h.maxRcv/2, 65535)+unit {
		h.tb.Fatalf("%d octets to read, the largest buffer was %d", n, h.maxRcv)
	}
	if n := h.reasm.cost(); n > h.maxRcv || len(h.reasm.pieces) > maxPieces {
		h.tb.Fatalf("%d octets out of order, the largest buffer was %d", n, h.maxRcv)
	}
	if h.sndBuf.len > h.maxSnd {
		h.tb.Fatalf("%d octets to send, the largest buffer was %d", h.sndBuf.len, h.maxSnd)
	}
}

// finish ends the connection and expects every octet of memory back.
func (h *hostile) finish() {
	h.consume(1 << 30)
	h.Release(h.now)
	h.check()
	h.Abort(h.now, ReasonAborted)
	h.check()
	if h.held != 0 || h.state != StateClosed {
		h.tb.Fatalf("%v: %d octets of the budget are held at the end", h.state, h.held)
	}
}
