package tcpx

import (
	"bytes"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// errorOf translates why a connection failed. ReasonNone is nil.
func errorOf(r tcb.Reason) tcpip.Error {
	switch r {
	case tcb.ReasonNone:
		return nil
	case tcb.ReasonReset:
		return &tcpip.ErrConnectionReset{}
	case tcb.ReasonRefused, tcb.ReasonPortUnreachable:
		return &tcpip.ErrConnectionRefused{}
	case tcb.ReasonTimeout:
		return &tcpip.ErrTimeout{}
	case tcb.ReasonHostUnreachable:
		return &tcpip.ErrHostUnreachable{}
	case tcb.ReasonNetUnreachable:
		return &tcpip.ErrNetworkUnreachable{}
	case tcb.ReasonProtoUnreachable:
		return &tcpip.ErrUnknownProtocolOption{}
	default:
		return &tcpip.ErrAborted{}
	}
}

// takeHardError returns the reason why the connection failed, once. The caller holds e.mu.
func (e *Endpoint) takeHardError() tcpip.Error {
	if e.errorTaken || e.tcb.State() != tcb.StateClosed {
		return nil
	}
	err := errorOf(e.tcb.Err())
	e.errorTaken = err != nil
	return err
}

// LastError implements tcpip.Endpoint.LastError and tcpip.SocketOptionsHandler.LastError (SO_ERROR): it returns and clears the error that ended the connection, else
// the last one that ICMP reported to a socket with IP_RECVERR.
func (e *Endpoint) LastError() tcpip.Error {
	e.lock()
	defer e.leave()
	if err := e.takeHardError(); err != nil {
		return err
	}
	if e.extra == nil {
		return nil
	}
	err := e.extra.lastError
	e.extra.lastError = nil
	return err
}

// UpdateLastError implements tcpip.SocketOptionsHandler.UpdateLastError.
func (e *Endpoint) UpdateLastError(err tcpip.Error) {
	e.lock()
	e.makeExtra().lastError = err
	e.leave()
}

// SoftError returns and clears the last soft error that ICMP reported of the connection, nil if there was none. Soft errors do not end a
// connection (RFC 9293 MUST-56); they tell why it might not get on (SHLD-25).
func (e *Endpoint) SoftError() tcpip.Error {
	e.lock()
	defer e.leave()
	return errorOf(e.tcb.SoftError())
}

// Read implements tcpip.Endpoint.Read. It returns ErrWouldBlock if there is nothing to read yet, ErrClosedForReceive at the end of the stream, and once
// the error that ended the connection, after all data that came before it.
func (e *Endpoint) Read(dst io.Writer, opts tcpip.ReadOptions) (tcpip.ReadResult, tcpip.Error) {
	e.lock()
	defer e.leave()
	n := e.tcb.ReadSize()
	if n == 0 || e.shutRead && e.closed {
		return tcpip.ReadResult{}, e.nothingToRead()
	}
	done, err := e.tcb.Read(e.proto.now(), dst, n, opts.Peek)
	e.collect()
	if done == 0 && err != nil {
		return tcpip.ReadResult{}, &tcpip.ErrBadBuffer{}
	}
	r := tcpip.ReadResult{Count: done, Total: done}
	if opts.NeedRemoteAddr {
		r.RemoteAddr = e.remoteAddress()
	}
	return r, nil
}

// nothingToRead tells why Read has nothing to return. The caller holds e.mu.
func (e *Endpoint) nothingToRead() tcpip.Error {
	switch state := e.stateLocked(); {
	case e.phase == phaseDeferred:
		e.deferredRead()
		return &tcpip.ErrWouldBlock{}
	case (state == tcp.StateSynSent || state == tcp.StateSynRecv) && !e.usable(state):
		return &tcpip.ErrWouldBlock{} // What comes after the handshake can be waited for.
	case state == tcp.StateError:
		if err := e.takeHardError(); err != nil {
			return err
		}
	case e.usable(state):
		if !e.shutRead && !e.tcb.ReadEOF() {
			return &tcpip.ErrWouldBlock{}
		}
	case state != tcp.StateClose:
		e.statistics().ReadErrors.NotConnected.Increment()
		return &tcpip.ErrNotConnected{}
	}
	e.statistics().ReadErrors.ReadClosed.Increment()
	return &tcpip.ErrClosedForReceive{}
}

// Write implements tcpip.Endpoint.Write. It queues as much as the send buffer has room for and returns how much that was. opts.More holds a partial segment back
// for what follows; the address in opts is ignored, as on Linux. It returns ErrWouldBlock if there is no room or no connection yet,
// ErrClosedForSend after a shutdown or when the connection is over, and once the error that ended it.
func (e *Endpoint) Write(p tcpip.Payloader, opts tcpip.WriteOptions) (int64, tcpip.Error) {
	return e.write(p, opts.More, false)
}

// WriteUrgent is Write of data whose last octet is urgent (MSG_OOB, RFC 9293 §3.8.5). New programs should not use the urgent mechanism (RFC 6093 §6).
func (e *Endpoint) WriteUrgent(data []byte) (int64, tcpip.Error) {
	return e.write(bytes.NewReader(data), false, true)
}

func (e *Endpoint) write(p tcpip.Payloader, more, urgent bool) (int64, tcpip.Error) {
	e.lock()
	defer e.leave()
	if e.phase == phaseDeferred && !urgent {
		return e.deferredWrite(p)
	}
	return e.writeLocked(p, more, urgent)
}

// writeLocked is write for a caller that holds e.mu.
func (e *Endpoint) writeLocked(p tcpip.Payloader, more, urgent bool) (int64, tcpip.Error) {
	if err := e.writable(); err != nil {
		e.statistics().WriteErrors.WriteClosed.Increment()
		return 0, err
	}
	n := p.Len()
	if n == 0 {
		return 0, nil
	}
	// The mark belongs to the last octet of the whole, so it goes with the call that takes all.
	urgent = urgent && n <= e.tcb.WriteSpace()
	done, err := e.tcb.Write(e.proto.now(), p, n, more, urgent)
	e.collect()
	if done == 0 {
		if err != nil {
			return 0, &tcpip.ErrBadBuffer{}
		}
		return 0, &tcpip.ErrWouldBlock{}
	}
	return int64(done), nil
}

// writable tells why nothing can be written whatever the room, nil if something can. The caller holds e.mu.
func (e *Endpoint) writable() tcpip.Error {
	switch state := e.stateLocked(); {
	case connecting(state) && !e.usable(state) && !e.shutWrite:
		return &tcpip.ErrWouldBlock{}
	case state == tcp.StateError:
		if err := e.takeHardError(); err != nil {
			return err
		}
		return &tcpip.ErrClosedForSend{}
	case !e.usable(state) || e.shutWrite:
		return &tcpip.ErrClosedForSend{}
	}
	return nil
}

// UrgentMark returns how many bytes can be read before the end of the urgent data (SIOCATMARK, RFC 9293 MUST-33), and whether urgent data is pending. The urgent
// octet stays in the stream, as RFC 6093 §6 has it.
func (e *Endpoint) UrgentMark() (bytes int, pending bool) {
	e.lock()
	defer e.leave()
	return e.tcb.UrgentMark()
}

// ModerateRecvBuf implements tcpip.Endpoint.ModerateRecvBuf. Read tunes the receive buffer by itself.
func (*Endpoint) ModerateRecvBuf(int) {}
