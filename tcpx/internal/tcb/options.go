package tcb

import "encoding/binary"

// MaxOptionLen is the room for options in a TCP header.
const MaxOptionLen = 40

// Option kinds (IANA TCP option numbers).
const (
	optEOL           = 0
	optNOP           = 1
	optMSS           = 2
	optWindowScale   = 3
	optSACKPermitted = 4
	optSACK          = 5
	optTimestamps    = 8
	optFastOpen      = 34  // RFC 7413
	optExperiment    = 254 // shared by experiments (RFC 6994)
)

// MaxWindowScale is the largest shift count (RFC 7323 §2.3); a larger one is used as 14.
const MaxWindowScale = 14

// Block is one SACK block: the octets from Left up to, not including, Right (RFC 2018 §3).
type Block struct{ Left, Right Seq }

// Options are the options of a segment that the core understands. Others are ignored (RFC 9293 MUST-6).
type Options struct {
	// MSS is the maximum segment size option's value, 0 if absent.
	MSS uint16
	// WScale is the shift count plus 1, 0 if absent.
	WScale uint8
	// SACKPermitted tells that the option is there.
	SACKPermitted bool
	// TS tells that TSVal and TSEcr are set.
	TS           bool
	TSVal, TSEcr uint32
	// SACK holds NumSACK blocks.
	NumSACK uint8
	SACK    [4]Block
	// FastOpen is the Fast Open option, the last if there are several. It counts on segments with SYN only.
	FastOpen FastOpenOption
}

// ParseOptions reads the option area of a header. It accepts options at any alignment and stops at the first illegal length, keeping what
// was read before (RFC 9293 MUST-5, MUST-6, MUST-7, MUST-64). It reports whether the area was well-formed.
func ParseOptions(b []byte, o *Options) bool {
	*o = Options{}
	// The usual layout after the handshake: NOP, NOP, timestamps (RFC 7323 appendix A).
	if len(b) == 12 && b[0] == optNOP && b[1] == optNOP && b[2] == optTimestamps && b[3] == 10 {
		o.TS = true
		o.TSVal = binary.BigEndian.Uint32(b[4:])
		o.TSEcr = binary.BigEndian.Uint32(b[8:])
		return true
	}
	for len(b) > 0 {
		switch b[0] {
		case optEOL:
			return true
		case optNOP:
			b = b[1:]
			continue
		}
		if len(b) < 2 {
			return false
		}
		n := int(b[1])
		if n < 2 || n > len(b) {
			return false
		}
		parseOption(b[0], b[2:n], o)
		b = b[n:]
	}
	return true
}

// parseOption takes one option; a known kind of the wrong length is ignored.
func parseOption(kind byte, v []byte, o *Options) {
	switch kind {
	case optMSS:
		if len(v) == 2 {
			o.MSS = binary.BigEndian.Uint16(v)
		}
	case optWindowScale:
		if len(v) == 1 {
			o.WScale = min(v[0], MaxWindowScale) + 1
		}
	case optSACKPermitted:
		if len(v) == 0 {
			o.SACKPermitted = true
		}
	case optTimestamps:
		if len(v) == 8 {
			o.TS = true
			o.TSVal = binary.BigEndian.Uint32(v)
			o.TSEcr = binary.BigEndian.Uint32(v[4:])
		}
	case optSACK:
		if len(v)%8 != 0 {
			return
		}
		for ; len(v) >= 8 && o.NumSACK < uint8(len(o.SACK)); v = v[8:] {
			o.SACK[o.NumSACK] = Block{Seq(binary.BigEndian.Uint32(v)), Seq(binary.BigEndian.Uint32(v[4:]))}
			o.NumSACK++
		}
	case optFastOpen, optExperiment:
		parseFastOpen(kind, v, o)
	}
}

// PutOptions writes o into b in the customary order and padding (RFC 7323 appendix A, RFC 2018 §3) and returns the length, a multiple of 4. SACK
// blocks that do not fit are left out (RFC 2018 §3: 4 blocks, 3 beside timestamps).
func PutOptions(b *[MaxOptionLen]byte, o *Options) int {
	n := 0
	if o.MSS != 0 {
		b[0], b[1] = optMSS, 4
		binary.BigEndian.PutUint16(b[2:], o.MSS)
		n = 4
	}
	switch {
	case o.TS && o.SACKPermitted:
		b[n], b[n+1] = optSACKPermitted, 2
		n += 2
	case o.TS:
		b[n], b[n+1] = optNOP, optNOP
		n += 2
	case o.SACKPermitted:
		b[n], b[n+1], b[n+2], b[n+3] = optNOP, optNOP, optSACKPermitted, 2
		n += 4
	}
	if o.TS {
		b[n], b[n+1] = optTimestamps, 10
		binary.BigEndian.PutUint32(b[n+2:], o.TSVal)
		binary.BigEndian.PutUint32(b[n+6:], o.TSEcr)
		n += 10
	}
	if o.WScale != 0 {
		b[n], b[n+1], b[n+2], b[n+3] = optNOP, optWindowScale, 3, o.WScale-1
		n += 4
	}
	if o.FastOpen.Present {
		n += putFastOpen(b[n:], &o.FastOpen)
	}
	if k := min(int(o.NumSACK), (MaxOptionLen-n-4)/8); k > 0 {
		b[n], b[n+1], b[n+2], b[n+3] = optNOP, optNOP, optSACK, byte(2+8*k)
		n += 4
		for _, s := range o.SACK[:k] {
			binary.BigEndian.PutUint32(b[n:], uint32(s.Left))
			binary.BigEndian.PutUint32(b[n+4:], uint32(s.Right))
			n += 8
		}
	}
	return n
}
