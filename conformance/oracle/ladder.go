package oracle

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Segment is a segment of a trace as people look at it.
type Segment struct {
	// Packet is the number of its packet, from 1, and At the time since the
	// first one.
	Packet int64
	At     time.Duration
	// Connection and Index number its connection and the segment in it, as in
	// Finding.
	Connection, Index int64
	From, To          netip.AddrPort
	// Lower says that From is the lower of both ends, which stays the same for
	// all segments of a connection.
	Lower bool

	p        *segment
	seq, ack int64
	window   int64
}

// describe returns the segment at hand.
func (x *exchange) describe() *Segment {
	s, r, p := x.s, x.r, x.p
	d := &Segment{
		Packet: p.num, At: p.at, Connection: x.cn.num, Index: x.cn.segments, From: p.src, To: p.dst, Lower: s == &x.cn.h[0],
		p: p, seq: int64(p.seq), ack: int64(p.ack), window: int64(p.window),
	}
	if s.synSeen {
		d.seq = s.offset(p.seq, s.next)
	}
	if r.synSeen {
		d.ack = r.offset(p.ack, max(s.acked, 0))
	}
	if shift, known := x.cn.scale(s); known && !p.has(flagSYN) {
		d.window <<= shift
	}
	return d
}

// String returns the segment as in "P. 1:101(100) ack 1 win 65535". Numbers count
// from the initial sequence number if that was seen.
func (d *Segment) String() string {
	var b strings.Builder
	p := d.p
	for _, f := range [...]struct {
		flag uint8
		name byte
	}{{flagSYN, 'S'}, {flagFIN, 'F'}, {flagRST, 'R'}, {flagPSH, 'P'}, {flagURG, 'U'}, {flagECE, 'E'}, {flagCWR, 'W'}, {flagACK, '.'}} {
		if p.has(f.flag) {
			b.WriteByte(f.name)
		}
	}
	if b.Len() == 0 {
		b.WriteByte('-')
	}
	fmt.Fprintf(&b, " %d", d.seq)
	if p.length > 0 {
		fmt.Fprintf(&b, ":%d(%d)", d.seq+int64(p.length), p.length)
	}
	if p.has(flagACK) {
		fmt.Fprintf(&b, " ack %d", d.ack)
	}
	if !p.has(flagRST) {
		fmt.Fprintf(&b, " win %d", d.window)
	}
	d.options(&b)
	return b.String()
}

// options appends those options that the rules speak about. Timestamps are left
// out, since they would fill the line.
func (d *Segment) options(b *strings.Builder) {
	o := &d.p.opts
	if o.hasMSS {
		fmt.Fprintf(b, " mss %d", o.mss)
	}
	if o.hasWS {
		fmt.Fprintf(b, " wscale %d", o.wscale)
	}
	if o.sackOK {
		b.WriteString(" sackOK")
	}
	if d.p.has(flagSYN) && o.hasTS {
		b.WriteString(" TS")
	}
	if o.blocks > 0 {
		b.WriteString(" sack")
		for _, k := range o.sack[:o.blocks] {
			lo := d.ack + int64(int32(k.left-d.p.ack))
			b.WriteString(" " + strconv.FormatInt(lo, 10) + ":" + strconv.FormatInt(lo+int64(int32(k.right-k.left)), 10))
		}
	}
}

// Ladder draws segments as arrows between the two ends of their connection, one
// a line, with what is wrong below them. It remembers nothing of the segments
// that it has drawn. Its methods are not for concurrent use.
type Ladder struct {
	w      io.Writer
	err    error
	conn   int64 // that of the line before
	last   int64 // the index of the segment of the line before
	notes  map[place][]*Finding
	near   map[int64][]int64 // the indices of segments with findings, by connection
	before int64
	after  int64
}

// place is a segment: the number of its connection, and its own in that.
type place struct{ conn, index int64 }

// NewLadder returns a Ladder that writes to w. It draws each segment that it is
// given, and below it the findings about it.
func NewLadder(w io.Writer, findings []Finding) *Ladder {
	l := &Ladder{w: w, notes: make(map[place][]*Finding), last: -1}
	for i := range findings {
		f := &findings[i]
		at := place{f.Connection, f.Segment}
		l.notes[at] = append(l.notes[at], f)
	}
	return l
}

// Only makes the ladder draw only segments of connections with findings: as many
// before and after one as it says.
func (l *Ladder) Only(before, after int64) {
	l.near, l.before, l.after = make(map[int64][]int64), before, after
	for at := range l.notes {
		l.near[at.conn] = append(l.near[at.conn], at.index)
	}
	for _, indices := range l.near {
		slices.Sort(indices)
	}
}

// draws reports whether a segment is to be drawn.
func (l *Ladder) draws(d *Segment) bool {
	if l.near == nil {
		return true
	}
	indices := l.near[d.Connection]
	i, _ := slices.BinarySearch(indices, d.Index-l.after)
	return i < len(indices) && indices[i]-l.before <= d.Index
}

// ladderWidth is how long the arrows are.
const ladderWidth = 58

// Draw draws a segment. It fits Options.Observe.
func (l *Ladder) Draw(d *Segment) {
	if !l.draws(d) {
		return
	}
	left, right := d.From, d.To
	if !d.Lower {
		left, right = right, left
	}
	switch {
	case d.Connection != l.conn:
		l.printf("\n%d: %v%s%v\n", d.Connection, left, strings.Repeat(" ", max(1, ladderWidth+18-len(left.String())-len(right.String()))), right)
	case d.Index != l.last+1:
		l.printf("%24s...\n", "")
	}
	l.conn, l.last = d.Connection, d.Index
	text := " " + d.String() + " "
	dashes := max(2, ladderWidth-len(text)-1)
	arrow := "|" + strings.Repeat("-", dashes/2) + text + strings.Repeat("-", dashes-dashes/2) + ">|"
	if !d.Lower {
		arrow = "|<" + strings.Repeat("-", dashes/2) + text + strings.Repeat("-", dashes-dashes/2) + "|"
	}
	l.printf("%7d %13.6f  %s\n", d.Packet, d.At.Seconds(), arrow)
	for _, f := range l.notes[place{d.Connection, d.Index}] {
		l.printf("%24s^ %s %s: %s (%s)\n", "", f.Tier, f.Rule, f.Text, f.Section)
	}
}

// printf writes until there is an error.
func (l *Ladder) printf(format string, args ...any) {
	if l.err == nil {
		_, l.err = fmt.Fprintf(l.w, format, args...)
	}
}

// Err returns the first error of writing.
func (l *Ladder) Err() error { return l.err }
