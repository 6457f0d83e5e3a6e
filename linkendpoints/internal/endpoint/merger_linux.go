package endpoint

import (
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/gro"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

// Merger puts TCP segments of a batch of frames together and delivers them. It
// belongs to a receiver's goroutine, but for the counters, and is usable after Init.
type Merger struct {
	// Coalesced counts segments that were delivered together with others, and
	// Detached those that were not delivered because the session stopped.
	Coalesced, Detached atomic.Uint64

	table    gro.Table
	linkSize int
	session  *lifecycle.Session
}

// Init sets m up for frames with link headers of linkSize bytes, which are
// Ethernet's or empty.
func (m *Merger) Init(linkSize int) {
	m.linkSize = linkSize
	m.table.Deliver = m.deliver
}

// Begin says to whom frames are delivered from now on. Nothing is held then.
func (m *Merger) Begin(s *lifecycle.Session) { m.session = s }

// Add looks at a frame for the host whose checksums are good, and whose bytes need
// stay as they are no longer than the call. If it reports true, the frame will be
// delivered by Flush at the latest. Otherwise it is the caller's, who can deliver it
// at once: what came before it in its flow has been delivered, if the frame is whole
// and no longer than one packet.
func (m *Merger) Add(b []byte, proto tcpip.NetworkProtocolNumber) bool {
	return m.table.Add(b, m.linkSize, proto)
}

// Flush delivers all that is held.
func (m *Merger) Flush() { m.table.Flush() }

// deliver takes what the table has put together.
func (m *Merger) deliver(b buffer.Buffer, segments int) {
	if m.session.Stopping() {
		m.Detached.Add(uint64(segments))
		b.Release()
		return
	}
	if segments > 1 {
		m.Coalesced.Add(uint64(segments))
	}
	frame.Deliver(m.session.Dispatcher, m.protocol(&b), tcpip.PacketHost, m.linkSize, b)
}

// protocol reads the network protocol of a frame that the table took, which is IP.
func (m *Merger) protocol(b *buffer.Buffer) tcpip.NetworkProtocolNumber {
	if m.linkSize > 0 {
		link, _ := b.PullUp(0, m.linkSize)
		return header.Ethernet(link.AsSlice()).Type()
	}
	first, _ := b.PullUp(0, 1)
	if header.IPVersion(first.AsSlice()) == header.IPv6Version {
		return header.IPv6ProtocolNumber
	}
	return header.IPv4ProtocolNumber
}
