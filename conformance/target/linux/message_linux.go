package linux

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/conformance/target"
)

// maxControl is the room for control messages, in octets.
const maxControl = 4096

// readMessage is recvmsg, with control messages, or a read into a buffer that is
// not there. What is on the error queue is never waited for.
func (h *host) readMessage(c target.Read, f *file) target.Pending {
	wait := !f.nonblock && c.Flags&(target.MsgDontWait|target.MsgErrQueue) == 0
	flags := int(c.Flags) | unix.MSG_DONTWAIT
	buf := make([]byte, c.Max)
	try := func() (target.Result, bool) {
		r, err := h.receiveMessage(c, buf, flags)
		switch {
		case err == unix.EAGAIN && wait:
			return target.Result{}, false
		case err != nil:
			return failed(err), true
		}
		return r, true
	}
	return h.start(&op{try: try, waits: waitFor(c.FD, unix.POLLIN), expire: wouldBlock}, f.recvTimeout)
}

// receiveMessage is one attempt of readMessage.
func (h *host) receiveMessage(c target.Read, buf []byte, flags int) (target.Result, error) {
	iov := unix.Iovec{}
	if len(buf) > 0 && !c.Unmapped {
		iov.Base = &buf[0]
	}
	iov.SetLen(len(buf))
	control := make([]byte, maxControl)
	msg := unix.Msghdr{Iov: &iov, Control: &control[0]}
	msg.SetIovlen(1)
	msg.SetControllen(len(control))
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(c.FD), uintptr(unsafe.Pointer(&msg)), uintptr(flags))
	if errno != 0 {
		return target.Result{}, errno
	}
	return target.Result{
		Value:   int64(n),
		Data:    buf[:min(int(n), len(buf))],
		Flags:   target.MsgFlags(msg.Flags),
		Control: h.controls(control[:msg.Controllen]),
	}, nil
}

// writeUnmapped is send from a buffer that is not there.
func writeUnmapped(c target.Write) target.Result {
	flags := uintptr(c.Flags) | unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT
	var to unsafe.Pointer
	var size uintptr
	if c.To.IsValid() && c.To.Addr().Is4() {
		a := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: c.To.Addr().As4(), Port: networkOrder(c.To.Port())}
		to, size = unsafe.Pointer(&a), unsafe.Sizeof(a)
	} else if c.To.IsValid() {
		a := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: c.To.Addr().As16(), Port: networkOrder(c.To.Port())}
		to, size = unsafe.Pointer(&a), unsafe.Sizeof(a)
	}
	n, _, errno := unix.Syscall6(unix.SYS_SENDTO, uintptr(c.FD), 0, uintptr(len(c.Data)), flags, uintptr(to), size)
	if errno != 0 {
		return failed(errno)
	}
	return target.Result{Value: int64(n)}
}

// networkOrder returns a port as it stands in a raw address.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], port)
	return binary.NativeEndian.Uint16(b[:])
}

// controls translates control messages.
func (h *host) controls(b []byte) []target.Control {
	messages, err := unix.ParseSocketControlMessage(b)
	if err != nil {
		return nil
	}
	var out []target.Control
	for _, m := range messages {
		c := target.Control{Level: int(m.Header.Level), Type: int(m.Header.Type)}
		switch {
		case c.Level == unix.SOL_SOCKET && c.Type == unix.SCM_TIMESTAMPING && len(m.Data) >= 16:
			sec, nsec := int64(binary.NativeEndian.Uint64(m.Data)), int64(binary.NativeEndian.Uint64(m.Data[8:]))
			c.At = time.Unix(sec, nsec).Sub(h.opened.Round(0)) // by the clock on the wall
		case (c.Level == unix.SOL_IP && c.Type == unix.IP_RECVERR || c.Level == unix.SOL_IPV6 && c.Type == unix.IPV6_RECVERR) && len(m.Data) >= 16:
			c.Fields = extendedError(m.Data)
		case len(m.Data) >= 4:
			c.Fields = map[string]int64{"": int64(int32(binary.NativeEndian.Uint32(m.Data)))}
		}
		out = append(out, c)
	}
	return out
}

// extendedError reads a struct sock_extended_err.
func extendedError(b []byte) map[string]int64 {
	return map[string]int64{
		"ee_errno":  int64(binary.NativeEndian.Uint32(b)),
		"ee_origin": int64(b[4]),
		"ee_type":   int64(b[5]),
		"ee_code":   int64(b[6]),
		"ee_info":   int64(binary.NativeEndian.Uint32(b[8:])),
		"ee_data":   int64(binary.NativeEndian.Uint32(b[12:])),
	}
}
