package report

import (
	"bytes"
	"encoding/binary"

	"github.com/plumbline/plumbline/conformance/runner"
)

// Blocks of pcapng (draft-ietf-opsawg-pcapng), and the link type of packets
// that begin with their IP header.
const (
	pcapngSection   = 0x0A0D0D0A
	pcapngMagic     = 0x1A2B3C4D
	pcapngInterface = 1
	pcapngPacket    = 6
	linkTypeRaw     = 101
)

// Options of pcapng blocks.
const (
	optionEnd    = 0
	optionFlags  = 2 // epb_flags
	optionTSRes  = 9 // if_tsresol
	nanoseconds  = 9
	flagInbound  = 1
	flagOutbound = 2
)

// PCAPNG returns the packets of a run as a pcapng file, with the times of the
// run and the direction as seen by the target.
func PCAPNG(r *runner.Result) []byte {
	var out bytes.Buffer
	le := binary.LittleEndian
	section := le.AppendUint32(nil, pcapngMagic)
	section = append(section, 1, 0, 0, 0)
	section = le.AppendUint64(section, ^uint64(0)) // of unknown length
	writeBlock(&out, pcapngSection, section)
	iface := []byte{linkTypeRaw, 0, 0, 0, 0, 0, 0, 0}
	iface = append(iface, optionTSRes, 0, 1, 0, nanoseconds, 0, 0, 0, optionEnd, 0, 0, 0)
	writeBlock(&out, pcapngInterface, iface)
	for _, e := range r.Trace {
		if len(e.Data) == 0 {
			continue
		}
		direction := uint32(flagInbound)
		if e.Kind == runner.Outbound {
			direction = flagOutbound
		}
		at := uint64(e.At)
		b := le.AppendUint32(nil, 0)
		b = le.AppendUint32(b, uint32(at>>32))
		b = le.AppendUint32(b, uint32(at))
		b = le.AppendUint32(b, uint32(len(e.Data)))
		b = le.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, e.Data...)
		b = append(b, make([]byte, -len(e.Data)&3)...)
		b = append(b, optionFlags, 0, 4, 0)
		b = le.AppendUint32(b, direction)
		writeBlock(&out, pcapngPacket, append(b, optionEnd, 0, 0, 0))
	}
	return out.Bytes()
}

// writeBlock writes a block, whose length stands at both ends.
func writeBlock(out *bytes.Buffer, kind uint32, body []byte) {
	le := binary.LittleEndian
	n := uint32(len(body) + 12)
	out.Write(le.AppendUint32(le.AppendUint32(nil, kind), n))
	out.Write(body)
	out.Write(le.AppendUint32(nil, n))
}
