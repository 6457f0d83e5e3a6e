package capture

import (
	"fmt"
	"io"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/pcapgo"
)

// output is where the writer of a capture puts packets: one file, or a row of
// them. Only the writer's goroutine uses it.
type output struct {
	iface pcapgo.NgInterface
	files *rotation // nil for one file, which is the caller's

	ng      *pcapgo.NgWriter
	size    int64     // bytes of the file at hand, those that ng holds back included
	packets int       // in the file at hand
	first   time.Time // of the file at hand
	last    time.Time

	received, dropped uint64 // in all files
}

// The sizes in bytes of pcapng's blocks and options, as the draft says
// (draft-ietf-opsawg-pcapng, §3.5 and §4).
const (
	packetBlock     = 32                // an Enhanced Packet Block without data and options
	flagsOption     = 8                 // epb_flags
	dropCountOption = 12                // epb_dropcount
	endOfOptions    = 4                 // opt_endofopt
	statisticsBlock = 24 + 4*12 + 4 + 4 // an Interface Statistics Block with four options
)

// blockSize returns the size of the block that r becomes.
func blockSize(r *record) int64 {
	n := packetBlock + flagsOption + endOfOptions
	if r.data != nil {
		n += (r.data.Size() + 3) &^ 3
	}
	if r.dropped > 0 {
		n += dropCountOption
	}
	return int64(n)
}

// tally counts what is written.
type tally struct {
	io.Writer
	n int64
}

func (t *tally) Write(b []byte) (int, error) {
	n, err := t.Writer.Write(b)
	t.n += int64(n)
	return n, err
}

// begin writes the header of a file.
func (o *output) begin(w io.Writer) error {
	t := tally{Writer: w}
	ng, err := pcapgo.NewNgWriterInterface(&t, o.iface, pcapgo.NgWriterOptions{SectionInfo: pcapgo.NgSectionInfo{Application: "plumbline"}})
	if err == nil {
		err = ng.Flush()
	}
	if err != nil {
		return fmt.Errorf("writing the file header: %w", err)
	}
	o.ng, o.size, o.packets = ng, t.n, 0
	return nil
}

// write writes a packet.
func (o *output) write(r *record) error {
	if o.files != nil && o.packets > 0 && o.files.ends(o, r) {
		if err := o.next(); err != nil {
			return err
		}
	}
	if o.packets == 0 {
		o.first = r.at
	}
	o.packets++
	o.last = r.at
	o.received++
	o.dropped += r.dropped
	o.size += blockSize(r)
	var data []byte
	if r.data != nil {
		data = r.data.AsSlice()
	}
	opts := pcapgo.NgPacketOptions{Flags: &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlagDirectionOutbound}}
	if r.inbound {
		opts.Flags.Direction = pcapgo.NgEpbFlagDirectionInbound
	}
	if r.dropped > 0 {
		opts.DropCount = &r.dropped
	}
	return o.ng.WritePacketWithOptions(gopacket.CaptureInfo{Timestamp: r.at, CaptureLength: len(data), Length: r.length}, data, opts)
}

// next ends the file at hand and begins another.
func (o *output) next() error {
	if err := o.end(o.dropped); err != nil {
		return err
	}
	w, err := o.files.open()
	if err != nil {
		return err
	}
	return o.begin(w)
}

// end completes the file at hand. dropped is how many packets were left out since
// the capture began.
func (o *output) end(dropped uint64) error {
	err := o.ng.WriteInterfaceStats(0, pcapgo.NgInterfaceStatistics{
		LastUpdate:      o.last,
		PacketsReceived: o.received + dropped,
		PacketsDropped:  dropped,
	})
	if err == nil {
		err = o.ng.Flush()
	}
	if o.files != nil {
		if closed := o.files.close(); err == nil {
			err = closed
		}
	}
	return err
}
