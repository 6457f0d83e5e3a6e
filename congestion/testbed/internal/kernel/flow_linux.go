package kernel

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// flow is one connection with the applications at both ends.
type flow struct {
	lab   *Lab
	spec  *Flow
	index int

	sender *socket
	// receiver is the accepted connection, nil until there is one.
	receiver atomic.Pointer[socket]
	received atomic.Int64
	finished atomic.Int64 // nanoseconds; 0 if it is not
	// last is what the sender's kernel said last.
	last State
}

const (
	serverPort = 5001
	firstPort  = 10_000

	writeSize = 64 << 10
	readSize  = 256 << 10
)

// zeros is what applications write.
var zeros [writeSize]byte

// open makes the sender's socket. It runs on a thread in the namespace.
func (f *flow) open() error {
	cfg := &f.lab.config
	s, err := open(func(fd int) error {
		if err := setAlgorithm(fd, f.spec.Algorithm); err != nil {
			return err
		}
		if cfg.Unsent > 0 {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, cfg.Unsent); err != nil {
				return fmt.Errorf("set TCP_NOTSENT_LOWAT: %w", err)
			}
		}
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: address(0, f.spec.Pair), Port: firstPort + f.index}); err != nil {
			return fmt.Errorf("bind: %w", err)
		}
		return nil
	})
	f.sender = s
	return err
}

// connect starts the connection. A write waits until it is established.
func (f *flow) connect() error {
	var err error
	controlled := f.sender.raw.Control(func(fd uintptr) {
		err = unix.Connect(int(fd), &unix.SockaddrInet4{Addr: address(1, f.spec.Pair), Port: serverPort})
	})
	if err = errors.Join(controlled, err); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return nil
}

// send is the application on the left: it connects when its time has come, writes what it has, and shuts down when that is all.
func (f *flow) send() {
	if !f.lab.sleepUntil(f.spec.Start) {
		return
	}
	if err := f.connect(); err != nil {
		f.lab.fail(f, err)
		return
	}
	for written := int64(0); f.spec.Bytes == 0 || written < f.spec.Bytes; {
		n := f.available(written)
		if n == 0 {
			if !f.lab.sleepUntil(f.lab.Elapsed() + f.pause()) {
				return
			}
			continue
		}
		done, err := f.sender.Write(zeros[:n])
		written += int64(done)
		if err != nil {
			f.lab.fail(f, fmt.Errorf("write: %w", err))
			return
		}
	}
	f.sender.raw.Control(func(fd uintptr) { unix.Shutdown(int(fd), unix.SHUT_WR) })
}

// available returns how much the application has to write now.
func (f *flow) available(written int64) int64 {
	n := int64(writeSize)
	if f.spec.Bytes > 0 {
		n = min(n, f.spec.Bytes-written)
	}
	if f.spec.Rate > 0 {
		n = min(n, int64(f.spec.Rate.Bytes(f.lab.Elapsed()-f.spec.Start))-written)
	}
	return max(n, 0)
}

// pause is how long an application with a rate waits for a segment more; less than a millisecond would be too short for the runtime's timers.
func (f *flow) pause() time.Duration {
	const segment = 1448 * 8
	return max(time.Duration(segment*float64(time.Second)/float64(f.spec.Rate)), time.Millisecond)
}

// receive is the application on the right: it reads everything.
func (f *flow) receive(s *socket) {
	buffer := make([]byte, readSize)
	for {
		n, err := s.Read(buffer)
		total := f.received.Add(int64(n))
		if f.spec.Bytes > 0 && total >= f.spec.Bytes {
			f.finished.CompareAndSwap(0, int64(f.lab.Elapsed()))
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return // The socket stays until the end, as the sender's does.
		default:
			f.lab.fail(f, fmt.Errorf("read: %w", err))
			return
		}
	}
}

// state asks the sender's kernel.
func (f *flow) state() State {
	var info *unix.TCPInfo
	var err error
	if closed := f.sender.raw.Control(func(fd uintptr) { info, err = tcpInfo(int(fd)) }); closed == nil && err == nil {
		f.last = stateOf(info)
	}
	s := f.last
	s.Received, s.Finished = f.received.Load(), time.Duration(f.finished.Load())
	return s
}

// stateOf translates.
func stateOf(i *unix.TCPInfo) State {
	const unlimited = ^uint64(0)
	s := State{
		Cwnd:        uint64(i.Snd_cwnd) * uint64(i.Snd_mss),
		SRTT:        time.Duration(i.Rtt) * time.Microsecond,
		MinRTT:      time.Duration(i.Min_rtt) * time.Microsecond,
		Retransmits: uint64(i.Total_retrans),
		Timeouts:    uint64(i.Total_rto),
	}
	if i.Min_rtt == ^uint32(0) {
		s.MinRTT = 0 // None measured.
	}
	if i.Pacing_rate != unlimited {
		s.Pacing = i.Pacing_rate
	}
	segments := int64(i.Unacked) - int64(i.Sacked) - int64(i.Lost) + int64(i.Retrans)
	s.InFlight = uint64(max(segments, 0)) * uint64(i.Snd_mss)
	return s
}

// close ends both connections.
func (f *flow) close() {
	f.sender.abort()
	f.receiver.Load().abort()
}
