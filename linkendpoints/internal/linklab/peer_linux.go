package linklab

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// PollInterval is how long a Peer waits at a time, so that the end of a context
// does not go unnoticed.
const PollInterval = 20 * time.Millisecond

// Peer is a linktest.Peer: the far end of a device, as a descriptor that does not
// block and keeps frame boundaries, such as a packet socket.
type Peer struct {
	FD int // -1 once closed
}

// Close closes the descriptor, which nobody may be using. Calls after the first
// do nothing.
func (p *Peer) Close() {
	if p.FD >= 0 {
		unix.Close(p.FD)
		p.FD = -1
	}
}

// Send implements linktest.Peer. It waits a while for room.
func (p *Peer) Send(frame []byte) error {
	var err error
	for range 5 {
		_, err = unix.Write(p.FD, frame)
		if !errors.Is(err, unix.ENOBUFS) && !errors.Is(err, unix.EAGAIN) {
			return err
		}
		p.Poll(unix.POLLOUT)
	}
	return err
}

// Recv implements linktest.Peer.
func (p *Peer) Recv(ctx context.Context) ([]byte, error) {
	b := make([]byte, 1<<17)
	for ctx.Err() == nil {
		n, err := unix.Read(p.FD, b)
		if err == nil {
			return b[:n], nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		p.Poll(unix.POLLIN)
	}
	return nil, ctx.Err()
}

// Poll waits for events, as in poll(2), for at most PollInterval.
func (p *Peer) Poll(events int16) {
	_, _ = unix.Poll([]unix.PollFd{{Fd: int32(p.FD), Events: events}}, int(PollInterval.Milliseconds()))
}

// Super returns a frame with the virtio-net header that makes the kernel cut it
// into TCP segments of mss bytes, if it is longer, and compute their checksums.
// The frame is TCP over IPv4 with link, IP and TCP headers of so many bytes in
// all, the last without options.
func Super(frame []byte, headers, mss int) []byte {
	h := vnet.Header{Flags: vnet.FlagNeedsCsum, CsumStart: uint16(headers - header.TCPMinimumSize), CsumOffset: header.TCPChecksumOffset}
	if len(frame)-headers > mss {
		h.GSOType, h.GSOSize, h.HdrLen = vnet.GSOTCPv4, uint16(mss), uint16(headers)
	}
	b := make([]byte, vnet.HeaderSize, vnet.HeaderSize+len(frame))
	h.Put(b)
	return append(b, frame...)
}
