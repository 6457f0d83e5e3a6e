package target

import "gvisor.dev/gvisor/pkg/tcpip"

// The interfaces of this file are for endpoints and protocols that can do more
// than gVisor's interfaces express. A target made by [Netstack] looks for them
// by type assertion; what an endpoint lacks is unsupported.

// TCPOptions is an endpoint with socket options beyond gVisor's types. Options
// carry Linux's numbers at level IPPROTO_TCP, with the values and units of
// setsockopt. An option that the endpoint does not have is a
// *tcpip.ErrUnknownProtocolOption.
type TCPOptions interface {
	SetTCPOptionInt(opt, value int) tcpip.Error
	GetTCPOptionInt(opt int) (int, tcpip.Error)
}

// TCPInfo is an endpoint that tells about its connection under the names and
// in the units of Linux's struct tcp_info, without the prefix.
type TCPInfo interface {
	TCPInfo() map[string]int64
}

// Urgent is an endpoint with urgent data (RFC 9293 section 3.8.5), which stays
// in the stream.
type Urgent interface {
	// WriteUrgent sends data of which the last octet is urgent, as send
	// with MSG_OOB does. It returns how much was taken.
	WriteUrgent(data []byte) (int64, tcpip.Error)
	// UrgentMark returns how many octets can be read up to the end of the
	// urgent data, and whether there is any.
	UrgentMark() (octets int, pending bool)
}

// RecvLowat is an endpoint that honours SO_RCVLOWAT, in octets.
type RecvLowat interface {
	SetRcvLowat(octets int)
	RcvLowat() int
}

// FastOpener is an endpoint that can send data with its SYN (RFC 7413), as sendto
// with MSG_FASTOPEN does.
type FastOpener interface {
	// ConnectWithData connects and returns how much of the data was taken. A
	// connection that has been started without data is a *tcpip.ErrConnectStarted.
	ConnectWithData(addr tcpip.FullAddress, p tcpip.Payloader) (int64, tcpip.Error)
}

// Sysctls is a protocol with settings beyond gVisor's option types. Names are
// Linux's, without "net.ipv4."; values are in Linux's notation. A setting that
// the protocol does not have is a *tcpip.ErrUnknownProtocolOption.
type Sysctls interface {
	SetSysctl(name, value string) tcpip.Error
}
