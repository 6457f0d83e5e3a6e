package emulated

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Trace is a list of instants at which a link can deliver, in the format of Mahimahi: a text with one integer a line, the time in milliseconds of one opportunity to
// deliver TraceOpportunity bytes. Opportunities that find nothing to deliver are lost; a packet may take several. After the last line the trace starts
// again, with that line's time as its length. A Trace may be shared by paths.
type Trace struct {
	at []uint32 // milliseconds, ascending
}

const (
	// TraceOpportunity is what one opportunity delivers, in bytes.
	TraceOpportunity = 1504
	// traceOverhead is what Mahimahi's packets have in front of the IP header, so that one of 1500 bytes fills an opportunity.
	traceOverhead = 4
	// maxTraceLines and maxTraceTime bound what ReadTrace accepts: a day at the first, half an hour at 10 Gbit/s at the second.
	maxTraceTime  = 24 * 60 * 60 * 1000
	maxTraceLines = 1 << 26
)

// LoadTrace reads a trace from a file. Errors name the file and the line.
func LoadTrace(name string) (*Trace, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	return ReadTrace(name, f)
}

// ReadTrace reads a trace. Errors name the file as name says, and the line.
func ReadTrace(name string, r io.Reader) (*Trace, error) {
	t := new(Trace)
	s := bufio.NewScanner(r)
	line := 0
	for s.Scan() {
		line++
		text := strings.TrimSpace(s.Text())
		if text == "" {
			continue
		}
		ms, err := strconv.ParseUint(text, 10, 32)
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s:%d: %.20q is not a time in milliseconds", name, line, text)
		case ms > maxTraceTime:
			return nil, fmt.Errorf("%s:%d: %d ms is more than a day", name, line, ms)
		case len(t.at) > 0 && uint32(ms) < t.at[len(t.at)-1]:
			return nil, fmt.Errorf("%s:%d: %d is before the line above it", name, line, ms)
		case len(t.at) == maxTraceLines:
			return nil, fmt.Errorf("%s:%d: more than %d lines", name, line, maxTraceLines)
		}
		t.at = append(t.at, uint32(ms))
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("%s:%d: %w", name, line+1, err)
	}
	if len(t.at) == 0 {
		return nil, fmt.Errorf("%s: no times", name)
	}
	if t.at[len(t.at)-1] == 0 {
		return nil, fmt.Errorf("%s:%d: the last time is 0, so that the trace has no length", name, line)
	}
	return t, nil
}

// Period returns the time after which the trace repeats.
func (t *Trace) Period() time.Duration {
	return time.Duration(t.at[len(t.at)-1]) * time.Millisecond
}

// Rate returns the mean rate of the trace.
func (t *Trace) Rate() BitRate {
	return BitRate(float64(len(t.at)) * TraceOpportunity * 8 / t.Period().Seconds())
}

// cursor is a position in a trace that repeats.
type cursor struct {
	trace *Trace
	base  time.Duration // when the repetition under way began
	next  int           // the first opportunity that is not used up
	left  int           // bytes left of the one before it
}

// at returns the instant of opportunity i of the repetition under way.
func (c *cursor) at(i int) time.Duration {
	return c.base + time.Duration(c.trace.at[i])*time.Millisecond
}

// serve uses up opportunities from t on for size bytes, and returns when the last byte leaves.
func (c *cursor) serve(t time.Duration, size int) time.Duration {
	end := t
	if c.next == 0 && c.base == 0 || c.lastUsed() < t {
		// What was left of it found nothing to send.
		c.left = 0
		c.skip(t)
	}
	for size > c.left {
		size -= c.left
		end = c.at(c.next)
		c.left = TraceOpportunity
		if c.next++; c.next == len(c.trace.at) {
			c.base += c.trace.Period()
			c.next = 0
		}
	}
	c.left -= size
	return end
}

// lastUsed returns the instant of the opportunity before next.
func (c *cursor) lastUsed() time.Duration {
	if c.next > 0 {
		return c.at(c.next - 1)
	}
	return c.base // The end of a repetition is the start of the next.
}

// skip moves to the first opportunity at or after t that is not used up.
func (c *cursor) skip(t time.Duration) {
	if period := c.trace.Period(); t-c.base > period {
		// An opportunity at the very end of a repetition belongs to it.
		whole := (t - c.base - 1) / period
		c.base += whole * period
		c.next = 0
	}
	n := len(c.trace.at) - c.next
	c.next += sort.Search(n, func(i int) bool { return c.at(c.next+i) >= t })
	if c.next == len(c.trace.at) {
		c.base += c.trace.Period()
		c.next = 0
	}
}
