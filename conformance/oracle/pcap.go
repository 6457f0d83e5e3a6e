package oracle

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"time"
)

// ErrFormat is the error of a file that is neither pcap nor pcapng.
var ErrFormat = errors.New("neither pcap nor pcapng")

// Limits of what a file may make the reader hold.
const (
	// maxCaptured is how many octets of one packet are looked at: more than
	// any IP packet and its link header.
	maxCaptured = 1 << 17
	// maxInterfaces is how many interfaces a section of a file may have.
	maxInterfaces = 1 << 16
)

// frame is a packet as a file has it. The data is valid until the next one is
// read.
type frame struct {
	linkType int
	at       time.Duration // since the epoch of the file
	data     []byte
	length   int // on the wire
}

// frames reads the packets of a file.
type frames interface {
	// next returns io.EOF at the end of the file, io.ErrUnexpectedEOF if it ends
	// in the middle of something, and an error that says what is malformed.
	next(f *frame) error
	// dropped returns how many packets the file says that it has missed, since
	// the last call.
	dropped() uint64
}

// openFrames looks at how a file begins.
func openFrames(r io.Reader) (frames, error) {
	br := bufio.NewReaderSize(r, 1<<16)
	magic, err := br.Peek(4)
	switch {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%w: it has %d octets", ErrFormat, len(magic))
	case err != nil:
		return nil, err
	case binary.BigEndian.Uint32(magic) == blockSection:
		return &ngFile{source: source{r: br}}, nil
	case magic[0] == 0x1f && magic[1] == 0x8b:
		return nil, fmt.Errorf("%w: it is compressed; pipe it through gzip -dc", ErrFormat)
	}
	return openClassic(br)
}

// source reads octets and keeps one packet.
type source struct {
	r     *bufio.Reader
	order binary.ByteOrder
	head  [28]byte
	buf   []byte
	lost  uint64
}

// dropped implements frames.
func (s *source) dropped() uint64 {
	n := s.lost
	s.lost = 0
	return n
}

// fixed reads n octets into head.
func (s *source) fixed(n int) ([]byte, error) {
	b := s.head[:n]
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, err
	}
	return b, nil
}

// inside is fixed where the end of the file cuts something off.
func (s *source) inside(n int) ([]byte, error) {
	b, err := s.fixed(n)
	return b, cutOff(err)
}

// cutOff makes the end of a file one that is not expected.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// take reads n octets of a packet and keeps the first maxCaptured of them.
func (s *source) take(n uint32) ([]byte, error) {
	want := int(min(n, maxCaptured))
	if cap(s.buf) < want {
		s.buf = make([]byte, max(want, 2048))
	}
	b := s.buf[:want]
	if _, err := io.ReadFull(s.r, b); err != nil {
		return nil, cutOff(err)
	}
	return b, s.skip(int64(n) - int64(want))
}

// skip leaves n octets out.
func (s *source) skip(n int64) error {
	for n > 0 {
		k, err := s.r.Discard(int(min(n, 1<<30)))
		if err != nil {
			return cutOff(err)
		}
		n -= int64(k)
	}
	return nil
}

// classic reads a pcap file.
type classic struct {
	source
	linkType int
	unit     time.Duration // of the second half of a time
	extra    int64         // octets between the header of a packet and the packet
}

// The magic numbers of pcap files, in their own byte order.
const (
	magicMicro    = 0xa1b2c3d4
	magicNano     = 0xa1b23c4d
	magicModified = 0xa1b2cd34 // with 8 octets more in the header of each packet
)

// openClassic reads the header of a pcap file.
func openClassic(br *bufio.Reader) (frames, error) {
	c := &classic{source: source{r: br}, unit: time.Microsecond}
	head, err := c.fixed(24)
	if err != nil {
		return nil, fmt.Errorf("%w: the header ends early", ErrFormat)
	}
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(head) {
		case magicNano:
			c.unit = time.Nanosecond
		case magicModified:
			c.extra = 8
		case magicMicro:
		default:
			continue
		}
		c.order = order
	}
	if c.order == nil {
		return nil, ErrFormat
	}
	if major := c.order.Uint16(head[4:]); major != 2 {
		return nil, fmt.Errorf("%w: version %d of pcap", ErrFormat, major)
	}
	c.linkType = int(c.order.Uint32(head[20:]) & 0xffff) // above it is the length of a check sequence
	return c, nil
}

// next implements frames.
func (c *classic) next(f *frame) error {
	head, err := c.fixed(16)
	if err != nil {
		return err
	}
	sec, frac := c.order.Uint32(head), c.order.Uint32(head[4:])
	captured, length := c.order.Uint32(head[8:]), c.order.Uint32(head[12:])
	if captured > math.MaxInt32 {
		return fmt.Errorf("a packet claims to have %d captured octets", captured)
	}
	if err := c.skip(c.extra); err != nil {
		return err
	}
	data, err := c.take(captured)
	if err != nil {
		return err
	}
	at := time.Duration(sec)*time.Second + time.Duration(frac)*c.unit
	*f = frame{linkType: c.linkType, at: at, data: data, length: wireLength(captured, length)}
	return nil
}

// wireLength is the length on the wire, which some writers leave out.
func wireLength(captured, length uint32) int {
	return int(min(max(captured, length), math.MaxInt32))
}

// Types of the blocks of a pcapng file.
const (
	blockSection    = 0x0a0d0d0a
	blockInterface  = 1
	blockOldPacket  = 2
	blockSimple     = 3
	blockStatistics = 5
	blockPacket     = 6

	byteOrderMagic = 0x1a2b3c4d
)

// ngInterface is what is known of an interface of a pcapng file.
type ngInterface struct {
	linkType   int
	snap       uint32
	resolution uint64 // ticks in a second
	offset     int64  // seconds to add
	ifDrop     uint64
	osDrop     uint64
}

// ngFile reads a pcapng file.
type ngFile struct {
	source
	interfaces []ngInterface
	left       int64 // octets of the block at hand, without its trailing length
	total      uint32
	skipping   bool          // a section of a version that is not understood
	lastAt     time.Duration // for blocks without a time
}

// next implements frames.
func (n *ngFile) next(f *frame) error {
	for {
		kind, err := n.begin()
		if err != nil {
			return err
		}
		got := false
		switch {
		case kind == blockSection || n.skipping:
		case kind == blockInterface:
			err = n.addInterface()
		case kind == blockPacket || kind == blockOldPacket:
			got, err = true, n.packet(f, kind)
		case kind == blockSimple:
			got, err = true, n.simple(f)
		case kind == blockStatistics:
			err = n.statistics()
		}
		if err == nil {
			err = n.end()
		}
		if err != nil || got {
			return err
		}
	}
}

// begin reads the head of a block, and all of a section header that matters.
func (n *ngFile) begin() (kind uint32, err error) {
	head, err := n.fixed(8)
	if err != nil {
		return 0, err
	}
	length := [4]byte(head[4:])
	if binary.BigEndian.Uint32(head) == blockSection {
		return blockSection, n.section(length)
	}
	if n.order == nil {
		return 0, ErrFormat
	}
	kind, n.total = n.order.Uint32(head), n.order.Uint32(length[:])
	n.left = int64(n.total) - 12
	return kind, n.checkLength(12)
}

// checkLength judges the length of a block that has at least some octets.
func (n *ngFile) checkLength(least uint32) error {
	if n.total < least || n.total%4 != 0 {
		return fmt.Errorf("a block has a length of %d octets", n.total)
	}
	return nil
}

// section begins a section: the byte order and the interfaces are new.
func (n *ngFile) section(length [4]byte) error {
	b, err := n.inside(8)
	if err != nil {
		return err
	}
	switch {
	case binary.LittleEndian.Uint32(b) == byteOrderMagic:
		n.order = binary.LittleEndian
	case binary.BigEndian.Uint32(b) == byteOrderMagic:
		n.order = binary.BigEndian
	default:
		return fmt.Errorf("%w: a section has the byte-order magic %x", ErrFormat, b[:4])
	}
	n.skipping = n.order.Uint16(b[4:]) != 1
	n.interfaces = n.interfaces[:0]
	n.total = n.order.Uint32(length[:])
	n.left = int64(n.total) - 20
	return n.checkLength(28)
}

// end leaves out the rest of a block and checks its second length.
func (n *ngFile) end() error {
	if err := n.skip(n.left); err != nil {
		return err
	}
	b, err := n.inside(4)
	if err != nil {
		return err
	}
	if again := n.order.Uint32(b); again != n.total {
		return fmt.Errorf("a block has a length of %d octets at its begin and %d at its end", n.total, again)
	}
	return nil
}

// body reads octets of the block at hand.
func (n *ngFile) body(size int) ([]byte, error) {
	if int64(size) > n.left {
		return nil, fmt.Errorf("a block of %d octets is too short for its type", n.total)
	}
	n.left -= int64(size)
	return n.inside(size)
}

// options calls f with each option of the block at hand.
func (n *ngFile) options(f func(code uint16, value []byte)) error {
	for n.left >= 4 {
		b, err := n.body(4)
		if err != nil {
			return err
		}
		code, length := n.order.Uint16(b), n.order.Uint16(b[2:])
		padded := (uint32(length) + 3) &^ 3
		if code == 0 {
			return nil
		}
		if int64(padded) > n.left {
			return fmt.Errorf("an option of %d octets runs past the end of its block", length)
		}
		n.left -= int64(padded)
		value, err := n.option(padded)
		if err != nil {
			return err
		}
		if value != nil {
			f(code, value[:length])
		}
	}
	return nil
}

// option reads the value of an option, or leaves it out if it is longer than any
// that matters. It does not touch the packet that take has read.
func (n *ngFile) option(padded uint32) ([]byte, error) {
	if padded <= uint32(len(n.head)) {
		return n.inside(int(padded))
	}
	return nil, n.skip(int64(padded))
}

// addInterface reads an interface description block.
func (n *ngFile) addInterface() error {
	b, err := n.body(8)
	if err != nil {
		return err
	}
	if len(n.interfaces) >= maxInterfaces {
		return fmt.Errorf("a section has more than %d interfaces", maxInterfaces)
	}
	i := ngInterface{linkType: int(n.order.Uint16(b)), snap: n.order.Uint32(b[4:]), resolution: 1e6}
	bad := false
	err = n.options(func(code uint16, v []byte) {
		switch {
		case code == 9 && len(v) == 1: // if_tsresol
			i.resolution, bad = resolution(v[0])
		case code == 14 && len(v) == 8: // if_tsoffset
			i.offset = int64(n.order.Uint64(v))
		}
	})
	if err == nil && bad {
		err = errors.New("an interface has a resolution of time that is too high")
	}
	n.interfaces = append(n.interfaces, i)
	return err
}

// resolution returns the number of ticks in a second that a value of if_tsresol
// means.
func resolution(v byte) (ticks uint64, bad bool) {
	exponent := int(v & 0x7f)
	if v&0x80 != 0 {
		return 1 << min(exponent, 63), exponent > 63
	}
	ticks = 1
	for range min(exponent, 19) {
		ticks *= 10
	}
	return ticks, exponent > 19
}

// time returns a time that an interface gives, as far as a Duration reaches.
func (i *ngInterface) time(ticks uint64) time.Duration {
	sec, rest := ticks/i.resolution, ticks%i.resolution
	hi, lo := bits.Mul64(rest, uint64(time.Second))
	nanos, _ := bits.Div64(hi, lo, i.resolution)
	const most = math.MaxInt64/int64(time.Second) - 1
	if sec > uint64(most) || i.offset > most || i.offset < -most {
		return math.MaxInt64
	}
	whole := int64(sec) + i.offset
	if whole > most || whole < -most {
		return math.MaxInt64
	}
	return time.Duration(whole)*time.Second + time.Duration(nanos)
}

// packet reads an enhanced packet block, or one of its predecessor.
func (n *ngFile) packet(f *frame, kind uint32) error {
	b, err := n.body(20)
	if err != nil {
		return err
	}
	number := n.order.Uint32(b)
	if kind == blockOldPacket {
		number = uint32(n.order.Uint16(b))
		if lost := n.order.Uint16(b[2:]); lost != 0xffff {
			n.lost += uint64(lost)
		}
	}
	if uint64(number) >= uint64(len(n.interfaces)) {
		return fmt.Errorf("a packet is of interface %d, of %d", number, len(n.interfaces))
	}
	i := &n.interfaces[number]
	at := i.time(uint64(n.order.Uint32(b[4:]))<<32 | uint64(n.order.Uint32(b[8:])))
	captured, length := n.order.Uint32(b[12:]), n.order.Uint32(b[16:])
	data, err := n.padded(captured)
	if err != nil {
		return err
	}
	*f = frame{linkType: i.linkType, at: at, data: data, length: wireLength(captured, length)}
	n.lastAt = at
	return n.options(func(code uint16, v []byte) {
		if code == 4 && len(v) == 8 { // epb_dropcount
			n.lost += n.order.Uint64(v)
		}
	})
}

// padded reads the data of a packet and its padding.
func (n *ngFile) padded(captured uint32) ([]byte, error) {
	padded := (int64(captured) + 3) &^ 3
	if padded > n.left {
		return nil, fmt.Errorf("a packet claims %d captured octets in a block of %d", captured, n.total)
	}
	n.left -= padded
	data, err := n.take(captured)
	if err != nil {
		return nil, err
	}
	return data, n.skip(padded - int64(captured))
}

// simple reads a simple packet block: one without a time, of the first
// interface.
func (n *ngFile) simple(f *frame) error {
	b, err := n.body(4)
	if err != nil {
		return err
	}
	if len(n.interfaces) == 0 {
		return errors.New("a packet comes before any interface")
	}
	i := &n.interfaces[0]
	length := n.order.Uint32(b)
	captured := uint32(min(int64(length), n.left))
	if i.snap > 0 {
		captured = min(captured, i.snap)
	}
	data, err := n.padded(captured)
	if err != nil {
		return err
	}
	*f = frame{linkType: i.linkType, at: n.lastAt, data: data, length: wireLength(captured, length)}
	return nil
}

// statistics reads an interface statistics block, whose counters are totals.
func (n *ngFile) statistics() error {
	b, err := n.body(12)
	if err != nil {
		return err
	}
	number := n.order.Uint32(b)
	if uint64(number) >= uint64(len(n.interfaces)) {
		return fmt.Errorf("statistics are of interface %d, of %d", number, len(n.interfaces))
	}
	i := &n.interfaces[number]
	return n.options(func(code uint16, v []byte) {
		if len(v) != 8 {
			return
		}
		total := n.order.Uint64(v)
		switch {
		case code == 5 && total > i.ifDrop: // isb_ifdrop
			n.lost += total - i.ifDrop
			i.ifDrop = total
		case code == 7 && total > i.osDrop: // isb_osdrop
			n.lost += total - i.osDrop
			i.osDrop = total
		}
	})
}
