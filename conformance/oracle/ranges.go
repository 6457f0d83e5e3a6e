package oracle

import (
	"bytes"
	"slices"
)

// span is a range of octets of a stream, by their offset from the initial
// sequence number: the first, and the one behind the last.
type span struct{ lo, hi int64 }

// maxSpans is how many ranges apart from each other a spans keeps.
const maxSpans = 4096

// spans is a set of octets, as ranges in order that do not touch.
type spans []span

// find returns the index of the first range that ends at or behind off.
func (s spans) find(off int64) int {
	// What matters is nearly always at the end.
	if n := len(s); n == 0 || s[n-1].hi < off {
		return n
	} else if n == 1 || s[n-2].hi < off {
		return n - 1
	}
	i, _ := slices.BinarySearchFunc(s, off, func(a span, off int64) int {
		if a.hi < off {
			return -1
		}
		return 1
	})
	return i
}

// add adds a range. It reports false if the set is full; the lowest gap is then
// taken to be filled.
func (s *spans) add(lo, hi int64) bool {
	if lo >= hi {
		return true
	}
	i := s.find(lo)
	j := i
	for ; j < len(*s) && (*s)[j].lo <= hi; j++ {
		lo, hi = min(lo, (*s)[j].lo), max(hi, (*s)[j].hi)
	}
	*s = slices.Replace(*s, i, j, span{lo, hi})
	if len(*s) <= maxSpans {
		return true
	}
	(*s)[1].lo = (*s)[0].lo
	*s = slices.Delete(*s, 0, 1)
	return false
}

// contains reports whether all of a range is in the set.
func (s spans) contains(lo, hi int64) bool {
	i := s.find(lo)
	if i < len(s) && s[i].hi == lo && hi > lo {
		i++
	}
	return i < len(s) && s[i].lo <= lo && hi <= s[i].hi
}

// end returns where the range that begins the set ends, or 0.
func (s spans) end() int64 {
	if len(s) == 0 {
		return 0
	}
	return s[0].hi
}

// keep is how many octets of a stream are kept for comparison, at most twice as
// many for a while.
const keep = 512 << 10

// keepAcked is how many octets are kept that were acknowledged: a retransmission
// may cross their acknowledgment.
const keepAcked = 16 << 10

// content is the latest part of a stream. Which of its octets are known is for
// the spans of the stream to say.
type content struct {
	base int64 // the offset of buf[0]
	buf  []byte
}

// put writes octets at off.
func (c *content) put(off int64, data []byte) {
	if len(c.buf) == 0 {
		c.base = off
	}
	end := off + int64(len(data))
	if end-c.base > 2*keep {
		c.shift(end - keep)
	}
	if off < c.base {
		if end <= c.base {
			return
		}
		data, off = data[c.base-off:], c.base
	}
	at := int(off - c.base)
	if need := at + len(data); need > len(c.buf) {
		c.buf = slices.Grow(c.buf, need-len(c.buf))[:need]
	}
	copy(c.buf[at:], data)
}

// shift forgets what is before base.
func (c *content) shift(base int64) {
	n := min(base-c.base, int64(len(c.buf)))
	c.buf = c.buf[:copy(c.buf, c.buf[n:])]
	c.base = base
}

// forget lets go of what is before off, once that is most of what is kept.
func (c *content) forget(off int64) {
	if n := off - c.base; n > keepAcked && n > int64(len(c.buf))/2 && n <= int64(len(c.buf)) {
		c.shift(off)
	}
}

// differs compares data at off with those octets that are kept and known. It
// returns the offset of the first that differs, or false.
func (c *content) differs(known spans, off int64, data []byte) (at int64, differs bool) {
	end := off + int64(len(data))
	for i := known.find(off + 1); i < len(known) && known[i].lo < end; i++ {
		lo := max(known[i].lo, off, c.base)
		hi := min(known[i].hi, end, c.base+int64(len(c.buf)))
		if lo >= hi {
			continue
		}
		a, b := c.buf[lo-c.base:hi-c.base], data[lo-off:hi-off]
		if bytes.Equal(a, b) {
			continue
		}
		for k := range a {
			if a[k] != b[k] {
				return lo + int64(k), true
			}
		}
	}
	return 0, false
}

// fill puts those octets of data at off that are not known yet, and makes them
// known.
func (c *content) fill(known *spans, off int64, data []byte) {
	end := off + int64(len(data))
	for at := off; at < end; {
		i := known.find(at + 1)
		if i < len(*known) && (*known)[i].lo <= at {
			at = (*known)[i].hi
			continue
		}
		stop := end
		if i < len(*known) {
			stop = min(stop, (*known)[i].lo)
		}
		c.put(at, data[at-off:stop-off])
		if !known.add(at, stop) {
			*known = spans{{at, stop}} // Too much in pieces: only the latest can be compared.
		}
		at = stop
	}
}
