package recovery

import (
	"testing"

	"github.com/plumbline/plumbline/tcpx/internal/seq"
)

// TestUndoDSACK: an episode is spurious once every retransmission was reported as a duplicate, and only then (RFC 3708 §3).
func TestUndoDSACK(t *testing.T) {
	type r struct{ lo, hi seq.Num }
	for _, c := range []struct {
		name           string
		sent, reported []r
		want           bool
	}{
		{"one", []r{{100, 200}}, []r{{100, 200}}, true},
		{"none sent", nil, []r{{100, 200}}, false},
		{"one of two", []r{{100, 200}, {300, 400}}, []r{{300, 400}}, false},
		{"two of two", []r{{100, 200}, {300, 400}}, []r{{300, 400}, {100, 200}}, true},
		{"one report of both", []r{{100, 200}, {200, 300}}, []r{{100, 300}}, true},
		{"in parts", []r{{100, 300}}, []r{{100, 200}, {200, 300}}, true},
		{"only a part", []r{{100, 300}}, []r{{100, 299}}, false},
		{"of something else, which the network doubled", []r{{100, 200}}, []r{{200, 300}}, false},
		{"sent three times: a DSACK may be about either copy", []r{{100, 200}, {100, 200}}, []r{{100, 200}}, false},
		{"sent three times, reported twice", []r{{100, 200}, {100, 200}}, []r{{100, 200}, {100, 200}}, false},
		{"across the wrap", []r{{1<<32 - 50, 50}}, []r{{1<<32 - 50, 50}}, true},
	} {
		var u Undo
		u.Begin()
		for _, s := range c.sent {
			u.Retransmitted(s.lo, s.hi, 7)
		}
		got := false
		for _, s := range c.reported {
			got = u.DSACK(s.lo, s.hi)
		}
		if got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestUndoEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func(*Undo)
		want bool
	}{
		{"during the episode", func(*Undo) {}, true},
		{"after it", func(u *Undo) { u.End(1000); u.Advanced(1000) }, true},
		{"a round trip after it", func(u *Undo) { u.End(1000); u.Advanced(1001) }, false},
		{"undone already", func(u *Undo) { u.Forget() }, false},
		{"another episode", func(u *Undo) { u.Begin() }, false},
		{"too many holes", func(u *Undo) {
			for i := range seq.Num(maxPending) {
				u.Retransmitted(1000+2*i, 1001+2*i, 1)
			}
		}, false},
	} {
		var u Undo
		u.Begin()
		u.Retransmitted(100, 200, 7)
		c.f(&u)
		if got := u.DSACK(100, 200); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// TestUndoEifel: the first ACK that covers the first retransmission decides (RFC 3522 §3.2).
func TestUndoEifel(t *testing.T) {
	type ack struct {
		una seq.Num
		ecr uint32
	}
	for _, c := range []struct {
		name string
		ts   uint32
		acks []ack
		want bool
	}{
		{"the original", 50, []ack{{200, 49}}, true},
		{"the retransmission", 50, []ack{{200, 50}}, false},
		{"a later one", 50, []ack{{200, 60}}, false},
		{"no timestamps", 50, []ack{{200, 0}}, false},
		{"does not cover it", 50, []ack{{100, 49}}, false},
		{"an older one decides nothing", 50, []ack{{100, 49}, {200, 49}}, true},
		{"the second one decides nothing", 50, []ack{{200, 50}, {300, 49}}, false},
		{"across the wrap of the clock", 3, []ack{{200, 1<<32 - 3}}, true},
		{"the retransmission across the wrap", 1<<32 - 3, []ack{{200, 3}}, false},
	} {
		var u Undo
		u.Begin()
		u.Retransmitted(100, 200, c.ts)
		u.Retransmitted(300, 400, c.ts+10)
		got := false
		for _, a := range c.acks {
			got = u.Original(a.una, a.ecr)
		}
		if got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
