package target

import "gvisor.dev/gvisor/pkg/tcpip"

// The errnos that the netstack target itself produces.
const (
	eAgain       Errno = "EAGAIN"
	eBadf        Errno = "EBADF"
	eExist       Errno = "EEXIST"
	eInProgress  Errno = "EINPROGRESS"
	eInval       Errno = "EINVAL"
	eNoEnt       Errno = "ENOENT"
	eNoProtoOpt  Errno = "ENOPROTOOPT"
	ePipe        Errno = "EPIPE"
	eAfNoSupport Errno = "EAFNOSUPPORT"
)

// errnoOf returns the name that Linux has for an error of netstack. Unknown
// errors come out under their own text, which no script expects.
func errnoOf(err tcpip.Error) Errno {
	switch err.(type) {
	case nil:
		return ""
	case *tcpip.ErrWouldBlock, *tcpip.ErrNoPortAvailable:
		return eAgain
	case *tcpip.ErrConnectStarted:
		return eInProgress
	case *tcpip.ErrAlreadyConnecting:
		return "EALREADY"
	case *tcpip.ErrAlreadyConnected:
		return "EISCONN"
	case *tcpip.ErrNotConnected:
		return "ENOTCONN"
	case *tcpip.ErrConnectionRefused:
		return "ECONNREFUSED"
	case *tcpip.ErrConnectionReset:
		return "ECONNRESET"
	case *tcpip.ErrConnectionAborted:
		return "ECONNABORTED"
	case *tcpip.ErrAborted, *tcpip.ErrClosedForSend:
		return ePipe
	case *tcpip.ErrTimeout:
		return "ETIMEDOUT"
	case *tcpip.ErrHostUnreachable:
		return "EHOSTUNREACH"
	case *tcpip.ErrNetworkUnreachable:
		return "ENETUNREACH"
	case *tcpip.ErrHostDown:
		return "EHOSTDOWN"
	case *tcpip.ErrNoNet:
		return "ENONET"
	case *tcpip.ErrPortInUse:
		return "EADDRINUSE"
	case *tcpip.ErrBadLocalAddress:
		return "EADDRNOTAVAIL"
	case *tcpip.ErrBadAddress, *tcpip.ErrBadBuffer:
		return "EFAULT"
	case *tcpip.ErrAlreadyBound, *tcpip.ErrInvalidEndpointState, *tcpip.ErrInvalidOptionValue,
		*tcpip.ErrInvalidPortRange, *tcpip.ErrMalformedHeader, *tcpip.ErrDuplicateNICID, *tcpip.ErrInvalidNICID:
		return eInval
	case *tcpip.ErrDestinationRequired:
		return "EDESTADDRREQ"
	case *tcpip.ErrNotSupported:
		return "EOPNOTSUPP"
	case *tcpip.ErrQueueSizeNotSupported:
		return "ENOTTY"
	case *tcpip.ErrNotPermitted:
		return "EPERM"
	case *tcpip.ErrNoSuchFile:
		return eNoEnt
	case *tcpip.ErrUnknownProtocolOption:
		return eNoProtoOpt
	case *tcpip.ErrUnknownProtocol:
		return "EPROTONOSUPPORT"
	case *tcpip.ErrUnknownDevice, *tcpip.ErrUnknownNICID:
		return "ENODEV"
	case *tcpip.ErrMessageTooLong:
		return "EMSGSIZE"
	case *tcpip.ErrNoBufferSpace:
		return "ENOBUFS"
	case *tcpip.ErrBroadcastDisabled:
		return "EACCES"
	case *tcpip.ErrDuplicateAddress:
		return eExist
	case *tcpip.ErrAddressFamilyNotSupported:
		return eAfNoSupport
	case *tcpip.ErrEndpointBusy:
		return "EBUSY"
	default:
		return Errno(err.String())
	}
}
