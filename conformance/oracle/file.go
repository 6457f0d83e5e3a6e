package oracle

import (
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// Check judges a pcap or pcapng file. It uses a bounded amount of memory,
// however long the file is.
//
// A file that ends in the middle of a packet is judged as far as it goes, which
// the report says. If the file is malformed further on, Check returns both the
// report of what came before and an error. There is no report if the file does
// not begin as a capture does; the error is then ErrFormat or one of reading.
func Check(r io.Reader, opt Options) (*Report, error) {
	in, err := openFrames(r)
	if err != nil {
		return nil, err
	}
	c := New(opt)
	err = c.readAll(in)
	if errors.Is(err, ErrFormat) && c.packets == 0 {
		return nil, err
	}
	if err != nil {
		err = fmt.Errorf("after packet %d: %w", c.packets, err)
	}
	return c.Report(), err
}

// readAll judges all packets of a file.
func (c *Checker) readAll(in frames) error {
	var f frame
	var first time.Duration
	for {
		err := in.next(&f)
		if lost := in.dropped(); lost > 0 {
			c.Missed(lost)
		}
		switch {
		case errors.Is(err, io.ErrUnexpectedEOF):
			c.unknown["packets that the end of the file cuts off"]++
			return nil
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if c.packets == 0 {
			first = f.at
		}
		c.Frame(sinceFirst(f.at, first), f.linkType, f.data, max(f.length, len(f.data)))
	}
}

// sinceFirst is the time since the first packet, as far as a Duration reaches.
func sinceFirst(at, first time.Duration) time.Duration {
	d := at - first
	if at > first && d < 0 {
		return math.MaxInt64
	}
	if at < first && d > 0 {
		return math.MinInt64
	}
	return d
}
