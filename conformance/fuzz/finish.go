package fuzz

import (
	"fmt"
	"time"

	"github.com/plumbline/plumbline/conformance/script"
)

const (
	// patience is how long a TCP has to stick to a connection at least (RFC 9293
	// section 3.8.3 SHLD-11), and all of the case must have been shorter for the target
	// to be blamed if it gave up.
	patience = 100 * time.Second
	// silence is how long nothing at all may happen while something is to be done.
	silence = 5 * time.Minute
	// timeWait is longer than any TIME-WAIT.
	timeWait = 10 * time.Minute
	// idleRounds is how often the good peer tries without anything having moved.
	idleRounds = 25
	// crawling is how long all that the application has written may take at most. A peer
	// that answers at once gets it in no time, unless by probes of a closed window.
	crawling = 10 * time.Minute
)

// finish makes the peer a good one: a connection that is sound delivers what both
// sides have, closes and is gone; any other is reset, and gone.
func (p *peer) finish() error {
	if !p.synSeen {
		return nil
	}
	closed := false
	if p.sound {
		var err error
		if closed, err = p.conclude(); err != nil {
			return err
		}
	}
	return p.vanish(closed)
}

// conclude brings a sound connection to its end, and reports whether it got there.
func (p *peer) conclude() (closed bool, err error) {
	for _, stage := range []func() (bool, error){p.open, p.lose, p.receiveAll, p.sendAll, p.close} {
		if on, err := stage(); err != nil || !on {
			return false, err
		}
	}
	return true, nil
}

// open completes the handshake, and reports whether that was possible.
func (p *peer) open() (bool, error) {
	for range 4 {
		switch {
		case !p.synSent && p.c.Active:
			t := &Segment{Flags: syn | ack, Seq: Place{From: Initial}, Ack: Place{From: Seen}, Win: 30000}
			if err := p.do(t); err != nil {
				return false, err
			}
		case p.synSent && p.acked == 0 || p.app.fd == 0:
			if err := p.do(p.goodACK()); err != nil {
				return false, err
			}
		}
		if err := p.accept(); err != nil {
			return false, err
		}
	}
	return p.synSent && p.acked > 0 && p.app.fd != 0, p.gaveUp()
}

// do sends a segment and takes what comes at once.
func (p *peer) do(t *Segment) error {
	if err := p.segment(t); err != nil {
		return err
	}
	return p.take(p.s.Now())
}

// goodACK acknowledges all and opens the window.
func (p *peer) goodACK() *Segment {
	t := &Segment{Flags: ack, Seq: Place{From: Next}, Ack: Place{From: Seen}, Win: 60000}
	if int32(p.next-p.edge) > 0 {
		t.Seq.From = Expected
	}
	return t
}

// gaveUp is a fault if the connection has ended for no reason that the peer, the
// application or the clock could have given.
func (p *peer) gaveUp() error {
	if p.app.errno == "" || p.app.impatient || p.s.Now() > patience {
		return nil
	}
	p.s.Expect(0, &script.Syscall{Name: "read", Args: []script.Expr{number(p.app.fd), ellipsis, number(1)}, Result: number(-1), Errno: "EAGAIN"})
	return &fault{"gave-up", "the application got " + p.app.errno + ", and nobody has done anything to end the connection"}
}

// connected reports whether both sides have acknowledged a SYN.
func (p *peer) connected() bool { return p.expected > 0 && p.acked > 0 }

// ended reports whether there is a connection to go on with.
func (p *peer) ended() bool {
	return p.app.errno != "" || p.reset && (p.app.closed || p.app.shutRead || p.app.impatient || p.s.Now() > patience)
}

// readAll reads what there is, if the application still reads.
func (p *peer) readAll() error {
	for !p.app.closed && !p.app.shutRead && !p.app.eof && p.app.errno == "" {
		n, err := p.readOnce(8192)
		if err != nil {
			return err
		}
		if n == 0 {
			break
		}
	}
	return nil
}

// lose takes what is under way for lost: it has to come again.
func (p *peer) lose() (bool, error) {
	flight := p.seen - p.acked
	if flight == 0 || flight > p.window || p.ended() || p.app.impatient {
		return true, nil
	}
	p.again = false
	for limit := p.s.Now() + silence; !p.again; {
		pkt, err := p.receive(limit)
		if err != nil {
			return false, err
		}
		if pkt == nil {
			return false, p.stuckSending(p.seen, p.acked)
		}
		if p.ended() {
			return false, p.gaveUp()
		}
	}
	return true, nil
}

// receiveAll acknowledges until the peer has all that the application wrote.
func (p *peer) receiveAll() (bool, error) {
	idle, before := 0, p.seen
	for limit := p.s.Now() + crawling; ; {
		end := uint32(1 + p.app.written)
		if p.app.closed || p.app.shutWr {
			end++
		}
		if err := p.do(p.goodACK()); err != nil {
			return false, err
		}
		if err := p.readAll(); err != nil {
			return false, err
		}
		if p.ended() {
			return false, p.gaveUp()
		}
		if int32(p.seen-end) >= 0 {
			return true, nil
		}
		if p.seen != before {
			idle, before = 0, p.seen
		} else if idle++; idle > idleRounds {
			return false, p.stuckSending(end, p.seen)
		}
		if p.s.Now() > limit {
			return false, p.stuckSending(end, p.seen)
		}
		if p.seen != p.acked {
			continue
		}
		pkt, err := p.receive(p.s.Now() + silence)
		if err != nil {
			return false, err
		}
		if pkt == nil {
			return false, p.stuckSending(end, p.seen)
		}
		if err := p.take(p.s.Now()); err != nil {
			return false, err
		}
	}
}

// stuckSending is a fault unless the connection has a reason to be at its end. The
// script expects the segment that is missing.
func (p *peer) stuckSending(end, from uint32) error {
	if p.app.impatient {
		return nil
	}
	if p.s.Now()-silence > patience {
		// It may have run out of patience, of which only the application hears, if it still reads.
		if err := p.readAll(); err != nil {
			return err
		}
		if p.app.closed || p.app.shutRead || p.app.eof || p.app.errno != "" {
			return nil
		}
	}
	missing := &script.TCP{Flags: ack, Seq: from, Len: uint16(min(end-from, 60000)), Ack: script.Some(p.expected), AnyOptions: true}
	if p.app.closed || p.app.shutWr {
		if missing.Flags |= fin; missing.Len > 0 {
			missing.Len--
		}
	}
	p.s.Expect(time.Minute, &script.Packet{Dir: script.Outbound, TCP: missing})
	return &fault{"stuck-sending", fmt.Sprintf("the peer has acknowledged all before and offers a window, but octets from %d to %d do not come", from, end)}
}

// sendAll sends what the target is missing, a bit more, and a FIN, and the application
// reads until there is no more.
func (p *peer) sendAll() (bool, error) {
	if p.app.closed || p.app.shutRead {
		return p.finish1()
	}
	end := p.next + 100
	if p.finSent {
		end = p.fin
	}
	idle, before := 0, p.expected
	for p.expected != end+1 {
		left := end - p.expected
		if int32(left) < 0 {
			return false, nil
		}
		t := p.goodACK()
		t.Seq, t.Len = Place{From: Expected}, uint16(min(left, 1000))
		if left <= 1000 {
			t.Flags |= fin
		}
		if err := p.do(t); err != nil {
			return false, err
		}
		if err := p.readAll(); err != nil {
			return false, err
		}
		if err := p.take(p.s.Now() + time.Second); err != nil {
			return false, err
		}
		if p.ended() {
			return false, p.gaveUp()
		}
		if p.expected != before {
			idle, before = 0, p.expected
		} else if idle++; idle > idleRounds {
			p.s.Expect(time.Second, &script.Packet{Dir: script.Outbound, TCP: &script.TCP{
				Flags: ack, Seq: p.seen, Ack: script.Some(end + 1), AnyOptions: true,
			}})
			return false, &fault{"stuck-receiving", fmt.Sprintf("data at %d is in the window and the application reads, but it is not acknowledged", p.expected)}
		}
	}
	return p.delivered(int(end - 1))
}

// finish1 sends a FIN to an application that reads no more, if all before it has
// arrived.
func (p *peer) finish1() (bool, error) {
	switch {
	case p.finSent && p.expected == p.fin+1:
		return true, nil
	case p.finSent && p.expected != p.fin, !p.finSent && p.expected != p.next:
		return false, nil
	}
	t := p.goodACK()
	t.Flags, t.Seq = fin|ack, Place{From: Expected}
	if err := p.do(t); err != nil {
		return false, err
	}
	return !p.reset, p.take(p.s.Now() + time.Second)
}

// delivered checks that the application has read the whole stream.
func (p *peer) delivered(n int) (bool, error) {
	if err := p.readAll(); err != nil {
		return false, err
	}
	_, _, verified := p.s.Streams(p.app.fd)
	if p.app.errno != "" {
		return false, p.gaveUp()
	}
	if !verified || p.app.eof && p.app.read == n {
		return true, nil
	}
	p.s.Expect(0, &script.Syscall{Name: "read", Args: []script.Expr{number(p.app.fd), ellipsis, number(1)}, Result: number(int64(min(1, max(0, n-p.app.read))))})
	return false, &fault{"lost", fmt.Sprintf("the target has acknowledged %d octets and a FIN, the application has read %d octets (end of the stream: %t)", n, p.app.read, p.app.eof)}
}

// close lets the application close and waits for the end of the connection.
func (p *peer) close() (bool, error) {
	if !p.app.closed {
		if err := p.applicationCall(&Call{Kind: Close}); err != nil {
			return false, err
		}
	}
	for range idleRounds {
		if err := p.take(p.s.Now()); err != nil {
			return false, err
		}
		if p.reset {
			return false, nil
		}
		if p.finSeen && p.seen == p.finAt+1 {
			return true, p.do(p.goodACK())
		}
		if err := p.do(p.goodACK()); err != nil {
			return false, err
		}
		if _, err := p.receive(p.s.Now() + silence); err != nil {
			return false, err
		}
	}
	if p.app.impatient {
		return false, nil
	}
	p.s.Expect(time.Minute, &script.Packet{Dir: script.Outbound, TCP: &script.TCP{Flags: fin | ack, Seq: p.seen, Ack: script.Some(p.expected), AnyOptions: true}})
	return false, &fault{"stuck-closing", "the application has closed, and no FIN comes"}
}

// vanish ends the connection with a RST, unless it has come to its end, and checks that
// it is gone: a segment to it is answered with a RST.
func (p *peer) vanish(closed bool) error {
	if p.app.fd != 0 && !p.app.closed {
		if err := p.applicationCall(&Call{Kind: Close}); err != nil {
			return err
		}
	}
	if err := p.take(p.s.Now() + time.Second); err != nil {
		return err
	}
	if !closed {
		t := &Segment{Flags: rst, Seq: Place{From: Expected}}
		if !p.synSent {
			t.Flags, t.Ack = rst|ack, Place{From: Seen}
		}
		if err := p.do(t); err != nil {
			return err
		}
	}
	if err := p.take(p.s.Now() + timeWait); err != nil {
		return err
	}
	p.reset = false
	probe := p.goodACK()
	probe.Seq = Place{From: Expected}
	seen := p.seen
	if err := p.do(probe); err != nil {
		return err
	}
	if p.reset {
		return nil
	}
	p.s.Expect(0, &script.Packet{Dir: script.Outbound, TCP: &script.TCP{Flags: rst, Seq: seen}})
	how := "was reset by its peer"
	if closed {
		how = "was closed by both sides"
	}
	return &fault{"leftover", "a connection that " + how + " is still there: a segment to it is not answered with a RST"}
}
