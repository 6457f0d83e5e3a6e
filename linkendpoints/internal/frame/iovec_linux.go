package frame

import (
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// MaxIovecs is the kernel's limit for one message (UIO_MAXIOV).
const MaxIovecs = 1024

// AppendIovec appends b, which is not empty.
func AppendIovec(iov []unix.Iovec, b []byte) []unix.Iovec {
	v := unix.Iovec{Base: &b[0]}
	v.SetLen(len(b))
	return append(iov, v)
}

// AppendPacket appends the bytes of pkt, headers included, where they lie. They
// stay valid as long as pkt does.
func AppendPacket(iov []unix.Iovec, pkt *stack.PacketBuffer) []unix.Iovec {
	views, skip := pkt.AsViewList()
	for v := views.Front(); v != nil; v = v.Next() {
		b := v.AsSlice()
		if skip >= len(b) {
			skip -= len(b)
			continue
		}
		iov = AppendIovec(iov, b[skip:])
		skip = 0
	}
	return iov
}
