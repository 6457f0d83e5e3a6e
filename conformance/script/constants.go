package script

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
)

// Constant returns the value of a symbolic name on Linux/amd64: those of
// sockets, their options and messages, of TCP_INFO, poll, epoll, fcntl and
// ioctl, and the error numbers, all positive.
func Constant(name string) (int64, bool) {
	if v, ok := constants[name]; ok {
		return v, true
	}
	v, ok := errnos[name]
	return v, ok
}

// Errno returns the number of an error, as in "EAGAIN".
func Errno(name string) (int64, bool) {
	v, ok := errnos[name]
	return v, ok
}

// ErrnoName returns the name of an error number, or "errno N" if it has none.
func ErrnoName(n int64) string {
	if name, ok := errnoNames[n]; ok {
		return name
	}
	return "errno " + strconv.FormatInt(n, 10)
}

// errnoNames is the inverse of errnos. Of two names for one number it has
// the one that Linux prints.
var errnoNames = func() map[int64]string {
	m := make(map[int64]string, len(errnos))
	for name, n := range errnos {
		m[n] = name
	}
	m[errnos["EAGAIN"]] = "EAGAIN"
	m[errnos["EDEADLK"]] = "EDEADLK"
	m[errnos["EOPNOTSUPP"]] = "EOPNOTSUPP"
	return m
}()

// Eval returns the value of an integer expression: a number, a constant, an
// "or" of them, or htons(N). An error names what has no value.
func Eval(e Expr) (int64, error) {
	switch e := e.(type) {
	case *Int:
		return e.Value, nil
	case *Name:
		if v, ok := Constant(e.Name); ok {
			return v, nil
		}
		return 0, &Error{Pos: e.Pos, Msg: fmt.Sprintf("the constant %s is not known", clip(e.Name))}
	case *Or:
		x, err := Eval(e.X)
		if err != nil {
			return 0, err
		}
		y, err := Eval(e.Y)
		return x | y, err
	case *Call:
		return evalCall(e)
	case nil:
		return 0, errors.New("there is no value")
	}
	return 0, &Error{Pos: e.Position(), Msg: fmt.Sprintf("%s is not a number", clip(e.String()))}
}

// evalCall evaluates htons(N), which swaps octets on a little-endian machine.
func evalCall(e *Call) (int64, error) {
	if (e.Name != "htons" && e.Name != "ntohs") || len(e.Args) != 1 {
		return 0, &Error{Pos: e.Pos, Msg: fmt.Sprintf("%s is not a number", clip(e.String()))}
	}
	v, err := Eval(e.Args[0])
	if err != nil {
		return 0, err
	}
	if v < 0 || v > 0xffff {
		return 0, &Error{Pos: e.Pos, Msg: fmt.Sprintf("%d does not fit into 16 bits", v)}
	}
	return int64(bits.ReverseBytes16(uint16(v))), nil
}

// constants are the values of Linux on amd64.
var constants = map[string]int64{
	// Address families, socket types and protocols.
	"AF_UNSPEC": 0, "AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_PACKET": 17,
	"PF_UNSPEC": 0, "PF_UNIX": 1, "PF_INET": 2, "PF_INET6": 10, "PF_PACKET": 17,
	"SOCK_STREAM": 1, "SOCK_DGRAM": 2, "SOCK_RAW": 3, "SOCK_NONBLOCK": 0x800, "SOCK_CLOEXEC": 0x80000,
	"IPPROTO_IP": 0, "IPPROTO_ICMP": 1, "IPPROTO_TCP": 6, "IPPROTO_UDP": 17, "IPPROTO_IPV6": 41,
	"IPPROTO_ICMPV6": 58, "IPPROTO_RAW": 255, "IPPROTO_MPTCP": 262,
	"INADDR_ANY": 0, "INADDR_LOOPBACK": 0x7f000001, "INADDR_BROADCAST": 0xffffffff,
	"NULL": 0, "SOMAXCONN": 4096,
	"SHUT_RD": 0, "SHUT_WR": 1, "SHUT_RDWR": 2,

	// Levels and options of sockets.
	"SOL_SOCKET": 1, "SOL_IP": 0, "SOL_TCP": 6, "SOL_UDP": 17, "SOL_IPV6": 41,
	"SO_DEBUG": 1, "SO_REUSEADDR": 2, "SO_TYPE": 3, "SO_ERROR": 4, "SO_DONTROUTE": 5, "SO_BROADCAST": 6,
	"SO_SNDBUF": 7, "SO_RCVBUF": 8, "SO_KEEPALIVE": 9, "SO_OOBINLINE": 10, "SO_NO_CHECK": 11,
	"SO_PRIORITY": 12, "SO_LINGER": 13, "SO_BSDCOMPAT": 14, "SO_REUSEPORT": 15, "SO_PASSCRED": 16,
	"SO_PEERCRED": 17, "SO_RCVLOWAT": 18, "SO_SNDLOWAT": 19, "SO_RCVTIMEO": 20, "SO_SNDTIMEO": 21,
	"SO_SECURITY_AUTHENTICATION": 22, "SO_SECURITY_ENCRYPTION_TRANSPORT": 23, "SO_SECURITY_ENCRYPTION_NETWORK": 24,
	"SO_BINDTODEVICE": 25, "SO_ATTACH_FILTER": 26, "SO_DETACH_FILTER": 27, "SO_PEERNAME": 28, "SO_TIMESTAMP": 29,
	"SO_ACCEPTCONN": 30, "SO_PEERSEC": 31, "SO_SNDBUFFORCE": 32, "SO_RCVBUFFORCE": 33, "SO_PASSSEC": 34,
	"SO_TIMESTAMPNS": 35, "SO_MARK": 36, "SO_TIMESTAMPING": 37, "SO_PROTOCOL": 38, "SO_DOMAIN": 39,
	"SO_RXQ_OVFL": 40, "SO_PEEK_OFF": 42, "SO_LOCK_FILTER": 44, "SO_SELECT_ERR_QUEUE": 45, "SO_BUSY_POLL": 46,
	"SO_MAX_PACING_RATE": 47, "SO_INCOMING_CPU": 49, "SO_MEMINFO": 55, "SO_INCOMING_NAPI_ID": 56,
	"SO_COOKIE": 57, "SO_ZEROCOPY": 60, "SO_TXTIME": 61, "SO_TXREHASH": 74,

	// Options of IP and IPv6.
	"IP_TOS": 1, "IP_TTL": 2, "IP_HDRINCL": 3, "IP_OPTIONS": 4, "IP_RECVOPTS": 6, "IP_RETOPTS": 7, "IP_PKTINFO": 8,
	"IP_MTU_DISCOVER": 10, "IP_RECVERR": 11, "IP_RECVTTL": 12, "IP_RECVTOS": 13, "IP_MTU": 14, "IP_FREEBIND": 15,
	"IP_TRANSPARENT": 19, "IP_MINTTL": 21, "IP_BIND_ADDRESS_NO_PORT": 24, "IP_LOCAL_PORT_RANGE": 51,
	"IP_PMTUDISC_DONT": 0, "IP_PMTUDISC_WANT": 1, "IP_PMTUDISC_DO": 2, "IP_PMTUDISC_PROBE": 3,
	"IP_PMTUDISC_INTERFACE": 4, "IP_PMTUDISC_OMIT": 5,
	"IPTOS_DSCP_CS0": 0, "IPTOS_DSCP_CS1": 0x20, "IPTOS_DSCP_CS2": 0x40, "IPTOS_DSCP_CS3": 0x60, "IPTOS_DSCP_CS4": 0x80,
	"IPTOS_DSCP_CS5": 0xa0, "IPTOS_DSCP_CS6": 0xc0, "IPTOS_DSCP_CS7": 0xe0, "IPTOS_DSCP_EF": 0xb8,
	"IPV6_UNICAST_HOPS": 16, "IPV6_MTU_DISCOVER": 23, "IPV6_MTU": 24, "IPV6_RECVERR": 25, "IPV6_V6ONLY": 26,
	"IPV6_FLOWINFO": 11, "IPV6_RECVPKTINFO": 49, "IPV6_RECVHOPLIMIT": 51, "IPV6_HOPLIMIT": 52,
	"IPV6_RECVTCLASS": 66, "IPV6_TCLASS": 67, "IPV6_FREEBIND": 78, "IPV6_FLOWLABEL_MGR": 32,
	"IPV6_FLOWINFO_SEND": 33, "IPV6_AUTOFLOWLABEL": 70, "IPV6_MINHOPCOUNT": 73,
	"IPV6_PMTUDISC_DONT": 0, "IPV6_PMTUDISC_WANT": 1, "IPV6_PMTUDISC_DO": 2, "IPV6_PMTUDISC_PROBE": 3,

	// Options of TCP.
	"TCP_NODELAY": 1, "TCP_MAXSEG": 2, "TCP_CORK": 3, "TCP_KEEPIDLE": 4, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 6,
	"TCP_SYNCNT": 7, "TCP_LINGER2": 8, "TCP_DEFER_ACCEPT": 9, "TCP_WINDOW_CLAMP": 10, "TCP_INFO": 11,
	"TCP_QUICKACK": 12, "TCP_CONGESTION": 13, "TCP_MD5SIG": 14, "TCP_COOKIE_TRANSACTIONS": 15,
	"TCP_THIN_LINEAR_TIMEOUTS": 16, "TCP_THIN_DUPACK": 17, "TCP_USER_TIMEOUT": 18, "TCP_REPAIR": 19,
	"TCP_REPAIR_QUEUE": 20, "TCP_QUEUE_SEQ": 21, "TCP_REPAIR_OPTIONS": 22, "TCP_FASTOPEN": 23, "TCP_TIMESTAMP": 24,
	"TCP_NOTSENT_LOWAT": 25, "TCP_CC_INFO": 26, "TCP_SAVE_SYN": 27, "TCP_SAVED_SYN": 28, "TCP_REPAIR_WINDOW": 29,
	"TCP_FASTOPEN_CONNECT": 30, "TCP_ULP": 31, "TCP_MD5SIG_EXT": 32, "TCP_FASTOPEN_KEY": 33,
	"TCP_FASTOPEN_NO_COOKIE": 34, "TCP_ZEROCOPY_RECEIVE": 35, "TCP_INQ": 36, "TCP_CM_INQ": 36, "TCP_TX_DELAY": 37,
	"TCP_AO_ADD_KEY": 38, "TCP_AO_DEL_KEY": 39, "TCP_AO_INFO": 40, "TCP_AO_GET_KEYS": 41, "TCP_AO_REPAIR": 42,
	"TCP_IS_MPTCP": 43, "TCP_RTO_MAX_MS": 44, "TCP_RTO_MIN_US": 45, "TCP_DELACK_MAX_US": 46,

	// TCP_INFO: states, states of congestion control, options.
	"TCP_ESTABLISHED": 1, "TCP_SYN_SENT": 2, "TCP_SYN_RECV": 3, "TCP_FIN_WAIT1": 4, "TCP_FIN_WAIT2": 5,
	"TCP_TIME_WAIT": 6, "TCP_CLOSE": 7, "TCP_CLOSE_WAIT": 8, "TCP_LAST_ACK": 9, "TCP_LISTEN": 10,
	"TCP_CLOSING": 11, "TCP_NEW_SYN_RECV": 12,
	"TCP_CA_Open": 0, "TCP_CA_Disorder": 1, "TCP_CA_CWR": 2, "TCP_CA_Recovery": 3, "TCP_CA_Loss": 4,
	"TCP_CA_OPEN": 0, "TCP_CA_DISORDER": 1, "TCP_CA_RECOVERY": 3, "TCP_CA_LOSS": 4,
	"TCPI_OPT_TIMESTAMPS": 1, "TCPI_OPT_SACK": 2, "TCPI_OPT_WSCALE": 4, "TCPI_OPT_ECN": 8, "TCPI_OPT_ECN_SEEN": 16,
	"TCPI_OPT_SYN_DATA": 32, "TCPI_OPT_USEC_TS": 64, "TCPI_OPT_TFO_CHILD": 128,
	"TCP_INFINITE_SSTHRESH": 0x7fffffff,
	// The states as FreeBSD calls them, with Linux's numbers.
	"TCPI_CLOSED": 7, "TCPI_LISTEN": 10, "TCPI_SYN_SENT": 2, "TCPI_SYN_RECEIVED": 3, "TCPI_ESTABLISHED": 1,
	"TCPI_CLOSE_WAIT": 8, "TCPI_FIN_WAIT_1": 4, "TCPI_CLOSING": 11, "TCPI_LAST_ACK": 9, "TCPI_FIN_WAIT_2": 5,
	"TCPI_TIME_WAIT": 6,

	// Attributes of the statistics that come with time stamps.
	"TCP_NLA_PAD": 0, "TCP_NLA_BUSY": 1, "TCP_NLA_RWND_LIMITED": 2, "TCP_NLA_SNDBUF_LIMITED": 3,
	"TCP_NLA_DATA_SEGS_OUT": 4, "TCP_NLA_TOTAL_RETRANS": 5, "TCP_NLA_PACING_RATE": 6, "TCP_NLA_DELIVERY_RATE": 7,
	"TCP_NLA_SND_CWND": 8, "TCP_NLA_REORDERING": 9, "TCP_NLA_MIN_RTT": 10, "TCP_NLA_RECUR_RETRANS": 11,
	"TCP_NLA_DELIVERY_RATE_APP_LMT": 12, "TCP_NLA_SNDQ_SIZE": 13, "TCP_NLA_CA_STATE": 14,
	"TCP_NLA_SND_SSTHRESH": 15, "TCP_NLA_DELIVERED": 16, "TCP_NLA_DELIVERED_CE": 17, "TCP_NLA_BYTES_SENT": 18,
	"TCP_NLA_BYTES_RETRANS": 19, "TCP_NLA_DSACK_DUPS": 20, "TCP_NLA_REORD_SEEN": 21, "TCP_NLA_SRTT": 22,
	"TCP_NLA_TIMEOUT_REHASH": 23, "TCP_NLA_BYTES_NOTSENT": 24, "TCP_NLA_EDT": 25, "TCP_NLA_TTL": 26,
	"TCP_NLA_REHASH": 27,

	// Flags of messages.
	"MSG_OOB": 1, "MSG_PEEK": 2, "MSG_DONTROUTE": 4, "MSG_CTRUNC": 8, "MSG_PROXY": 0x10, "MSG_TRUNC": 0x20,
	"MSG_DONTWAIT": 0x40, "MSG_EOR": 0x80, "MSG_WAITALL": 0x100, "MSG_FIN": 0x200, "MSG_SYN": 0x400,
	"MSG_CONFIRM": 0x800, "MSG_RST": 0x1000, "MSG_ERRQUEUE": 0x2000, "MSG_NOSIGNAL": 0x4000, "MSG_MORE": 0x8000,
	"MSG_WAITFORONE": 0x10000, "MSG_ZEROCOPY": 0x4000000, "MSG_FASTOPEN": 0x20000000,
	"MSG_CMSG_CLOEXEC": 0x40000000,

	// Ancillary data, the error queue and time stamps.
	"SO_EE_ORIGIN_NONE": 0, "SO_EE_ORIGIN_LOCAL": 1, "SO_EE_ORIGIN_ICMP": 2, "SO_EE_ORIGIN_ICMP6": 3,
	"SO_EE_ORIGIN_TXSTATUS": 4, "SO_EE_ORIGIN_TIMESTAMPING": 4, "SO_EE_ORIGIN_ZEROCOPY": 5,
	"SO_EE_CODE_ZEROCOPY_COPIED": 1,
	"SCM_RIGHTS":                 1, "SCM_CREDENTIALS": 2, "SCM_TIMESTAMP": 29, "SCM_TIMESTAMPNS": 35, "SCM_TIMESTAMPING": 37,
	"SCM_TIMESTAMPING_OPT_STATS": 54, "SCM_TSTAMP_SND": 0, "SCM_TSTAMP_SCHED": 1, "SCM_TSTAMP_ACK": 2,
	"SOF_TIMESTAMPING_TX_HARDWARE": 1, "SOF_TIMESTAMPING_TX_SOFTWARE": 2, "SOF_TIMESTAMPING_RX_HARDWARE": 4,
	"SOF_TIMESTAMPING_RX_SOFTWARE": 8, "SOF_TIMESTAMPING_SOFTWARE": 16, "SOF_TIMESTAMPING_SYS_HARDWARE": 32,
	"SOF_TIMESTAMPING_RAW_HARDWARE": 64, "SOF_TIMESTAMPING_OPT_ID": 128, "SOF_TIMESTAMPING_TX_SCHED": 256,
	"SOF_TIMESTAMPING_TX_ACK": 512, "SOF_TIMESTAMPING_OPT_CMSG": 1024, "SOF_TIMESTAMPING_OPT_TSONLY": 2048,
	"SOF_TIMESTAMPING_OPT_STATS": 4096, "SOF_TIMESTAMPING_OPT_PKTINFO": 8192, "SOF_TIMESTAMPING_OPT_TX_SWHW": 16384,
	"SOF_TIMESTAMPING_BIND_PHC": 32768, "SOF_TIMESTAMPING_OPT_ID_TCP": 65536,

	// poll and epoll.
	"POLLIN": 1, "POLLPRI": 2, "POLLOUT": 4, "POLLERR": 8, "POLLHUP": 0x10, "POLLNVAL": 0x20, "POLLRDNORM": 0x40,
	"POLLRDBAND": 0x80, "POLLWRNORM": 0x100, "POLLWRBAND": 0x200, "POLLMSG": 0x400, "POLLRDHUP": 0x2000,
	"POLLREMOVE": 0x1000,
	"EPOLLIN":    1, "EPOLLPRI": 2, "EPOLLOUT": 4, "EPOLLERR": 8, "EPOLLHUP": 0x10, "EPOLLRDNORM": 0x40,
	"EPOLLRDBAND": 0x80, "EPOLLWRNORM": 0x100, "EPOLLWRBAND": 0x200, "EPOLLMSG": 0x400, "EPOLLRDHUP": 0x2000,
	"EPOLLEXCLUSIVE": 1 << 28, "EPOLLWAKEUP": 1 << 29, "EPOLLONESHOT": 1 << 30, "EPOLLET": 1 << 31,
	"EPOLL_CTL_ADD": 1, "EPOLL_CTL_DEL": 2, "EPOLL_CTL_MOD": 3, "EPOLL_CLOEXEC": 0x80000,

	// open, fcntl, ioctl and splice.
	"O_RDONLY": 0, "O_WRONLY": 1, "O_RDWR": 2, "O_ACCMODE": 3, "O_CREAT": 0x40, "O_EXCL": 0x80, "O_NOCTTY": 0x100,
	"O_TRUNC": 0x200, "O_APPEND": 0x400, "O_NONBLOCK": 0x800, "O_NDELAY": 0x800, "O_SYNC": 0x101000,
	"O_CLOEXEC": 0x80000,
	"F_DUPFD":   0, "F_GETFD": 1, "F_SETFD": 2, "F_GETFL": 3, "F_SETFL": 4, "F_GETLK": 5, "F_SETLK": 6, "F_SETLKW": 7,
	"F_GETLK64": 5, "F_SETLK64": 6, "F_SETLKW64": 7, "F_SETOWN": 8, "F_GETOWN": 9, "F_SETSIG": 10, "F_GETSIG": 11,
	"F_SETLEASE": 1024, "F_GETLEASE": 1025, "F_NOTIFY": 1026, "F_DUPFD_CLOEXEC": 1030, "FD_CLOEXEC": 1,
	"F_RDLCK": 0, "F_WRLCK": 1, "F_UNLCK": 2, "F_EXLCK": 4, "F_SHLCK": 8,
	"LOCK_SH": 1, "LOCK_EX": 2, "LOCK_NB": 4, "LOCK_UN": 8,
	"SEEK_SET": 0, "SEEK_CUR": 1, "SEEK_END": 2,
	"FIONREAD": 0x541b, "FIONBIO": 0x5421, "SIOCINQ": 0x541b, "SIOCOUTQ": 0x5411, "SIOCOUTQNSD": 0x894b,
	"SIOCATMARK": 0x8905, "TIOCINQ": 0x541b, "TIOCOUTQ": 0x5411,
	"SPLICE_F_MOVE": 1, "SPLICE_F_NONBLOCK": 2, "SPLICE_F_MORE": 4,
}

// errnos are the error numbers of Linux on amd64.
var errnos = map[string]int64{
	"EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EINTR": 4, "EIO": 5, "ENXIO": 6, "E2BIG": 7, "ENOEXEC": 8, "EBADF": 9,
	"ECHILD": 10, "EAGAIN": 11, "EWOULDBLOCK": 11, "ENOMEM": 12, "EACCES": 13, "EFAULT": 14, "ENOTBLK": 15,
	"EBUSY": 16, "EEXIST": 17, "EXDEV": 18, "ENODEV": 19, "ENOTDIR": 20, "EISDIR": 21, "EINVAL": 22, "ENFILE": 23,
	"EMFILE": 24, "ENOTTY": 25, "ETXTBSY": 26, "EFBIG": 27, "ENOSPC": 28, "ESPIPE": 29, "EROFS": 30, "EMLINK": 31,
	"EPIPE": 32, "EDOM": 33, "ERANGE": 34, "EDEADLK": 35, "EDEADLOCK": 35, "ENAMETOOLONG": 36, "ENOLCK": 37,
	"ENOSYS": 38, "ENOTEMPTY": 39, "ELOOP": 40, "ENOMSG": 42, "EIDRM": 43, "ENOSTR": 60, "ENODATA": 61, "ETIME": 62,
	"ENOSR": 63, "ENOLINK": 67, "EPROTO": 71, "EMULTIHOP": 72, "EBADMSG": 74, "EOVERFLOW": 75, "EILSEQ": 84,
	"EUSERS": 87, "ENOTSOCK": 88, "EDESTADDRREQ": 89, "EMSGSIZE": 90, "EPROTOTYPE": 91, "ENOPROTOOPT": 92,
	"EPROTONOSUPPORT": 93, "ESOCKTNOSUPPORT": 94, "EOPNOTSUPP": 95, "ENOTSUP": 95, "EPFNOSUPPORT": 96,
	"EAFNOSUPPORT": 97, "EADDRINUSE": 98, "EADDRNOTAVAIL": 99, "ENETDOWN": 100, "ENETUNREACH": 101,
	"ENETRESET": 102, "ECONNABORTED": 103, "ECONNRESET": 104, "ENOBUFS": 105, "EISCONN": 106, "ENOTCONN": 107,
	"ESHUTDOWN": 108, "ETOOMANYREFS": 109, "ETIMEDOUT": 110, "ECONNREFUSED": 111, "EHOSTDOWN": 112,
	"EHOSTUNREACH": 113, "EALREADY": 114, "EINPROGRESS": 115, "ESTALE": 116, "EDQUOT": 122, "ECANCELED": 125,
	"EOWNERDEAD": 130, "ENOTRECOVERABLE": 131,
}
