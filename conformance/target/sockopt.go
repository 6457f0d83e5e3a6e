package target

import (
	"math"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// optionName identifies a socket option by Linux's names.
type optionName struct{ level, name string }

// option is how a netstack target maps one socket option. A nil set or get
// means that the option cannot be set, or read.
type option struct {
	set func(s *socket, v any) tcpip.Error
	get func(s *socket) (any, tcpip.Error)
}

// intOption is an option whose value is an int.
func intOption(set func(*socket, int) tcpip.Error, get func(*socket) (int, tcpip.Error)) option {
	o := option{}
	if set != nil {
		o.set = func(s *socket, v any) tcpip.Error {
			i, ok := v.(int)
			if !ok {
				return &tcpip.ErrInvalidOptionValue{}
			}
			return set(s, i)
		}
	}
	if get != nil {
		o.get = func(s *socket) (any, tcpip.Error) { v, err := get(s); return v, err }
	}
	return o
}

// boolOption is an option whose value is 0 or 1.
func boolOption(set func(*tcpip.SocketOptions, bool), get func(*tcpip.SocketOptions) bool) option {
	return intOption(
		func(s *socket, v int) tcpip.Error { set(s.ep.SocketOptions(), v != 0); return nil },
		func(s *socket) (int, tcpip.Error) {
			if get(s.ep.SocketOptions()) {
				return 1, nil
			}
			return 0, nil
		})
}

// numberOption is an option that netstack itself keeps as an int.
func numberOption(opt tcpip.SockOptInt) option {
	return intOption(
		func(s *socket, v int) tcpip.Error { return s.ep.SetSockOptInt(opt, v) },
		func(s *socket) (int, tcpip.Error) { return s.ep.GetSockOptInt(opt) })
}

// settableDuration is an option type of netstack that is a duration.
type settableDuration[T any] interface {
	*T
	tcpip.SettableSocketOption
	tcpip.GettableSocketOption
}

// durationOption is an option that netstack keeps as a duration and Linux as
// a number of units.
func durationOption[T ~int64, P settableDuration[T]](unit time.Duration) option {
	return intOption(
		func(s *socket, v int) tcpip.Error {
			d := T(time.Duration(v) * unit)
			return s.ep.SetSockOpt(P(&d))
		},
		func(s *socket) (int, tcpip.Error) {
			var d T
			err := s.ep.GetSockOpt(P(&d))
			return int(time.Duration(d) / unit), err
		})
}

// options maps the socket options that netstack has types for.
var options = map[optionName]option{
	{"SOL_SOCKET", "SO_REUSEADDR"}:  boolOption((*tcpip.SocketOptions).SetReuseAddress, (*tcpip.SocketOptions).GetReuseAddress),
	{"SOL_SOCKET", "SO_REUSEPORT"}:  boolOption((*tcpip.SocketOptions).SetReusePort, (*tcpip.SocketOptions).GetReusePort),
	{"SOL_SOCKET", "SO_KEEPALIVE"}:  boolOption((*tcpip.SocketOptions).SetKeepAlive, (*tcpip.SocketOptions).GetKeepAlive),
	{"SOL_SOCKET", "SO_SNDBUF"}:     intOption(setSendBuffer, getSendBuffer),
	{"SOL_SOCKET", "SO_RCVBUF"}:     intOption(setRecvBuffer, getRecvBuffer),
	{"SOL_SOCKET", "SO_RCVLOWAT"}:   intOption(setRecvLowat, getRecvLowat),
	{"SOL_SOCKET", "SO_ERROR"}:      {get: getError},
	{"SOL_SOCKET", "SO_LINGER"}:     {set: setLinger, get: getLinger},
	{"SOL_SOCKET", "SO_ACCEPTCONN"}: {get: getAcceptConn},
	{"SOL_SOCKET", "SO_RCVTIMEO"}: timeoutOption(
		func(s *socket) *time.Duration { return &s.recvTimeout }),
	{"SOL_SOCKET", "SO_SNDTIMEO"}: timeoutOption(
		func(s *socket) *time.Duration { return &s.sendTimeout }),

	{"IPPROTO_TCP", "TCP_NODELAY"}: boolOption(
		func(so *tcpip.SocketOptions, v bool) { so.SetDelayOption(!v) },
		func(so *tcpip.SocketOptions) bool { return !so.GetDelayOption() }),
	{"IPPROTO_TCP", "TCP_CORK"}:         boolOption((*tcpip.SocketOptions).SetCorkOption, (*tcpip.SocketOptions).GetCorkOption),
	{"IPPROTO_TCP", "TCP_QUICKACK"}:     boolOption((*tcpip.SocketOptions).SetQuickAck, (*tcpip.SocketOptions).GetQuickAck),
	{"IPPROTO_TCP", "TCP_MAXSEG"}:       numberOption(tcpip.MaxSegOption),
	{"IPPROTO_TCP", "TCP_KEEPIDLE"}:     durationOption[tcpip.KeepaliveIdleOption](time.Second),
	{"IPPROTO_TCP", "TCP_KEEPINTVL"}:    durationOption[tcpip.KeepaliveIntervalOption](time.Second),
	{"IPPROTO_TCP", "TCP_KEEPCNT"}:      numberOption(tcpip.KeepaliveCountOption),
	{"IPPROTO_TCP", "TCP_USER_TIMEOUT"}: durationOption[tcpip.TCPUserTimeoutOption](time.Millisecond),
	{"IPPROTO_TCP", "TCP_DEFER_ACCEPT"}: durationOption[tcpip.TCPDeferAcceptOption](time.Second),
	{"IPPROTO_TCP", "TCP_LINGER2"}:      durationOption[tcpip.TCPLingerTimeoutOption](time.Second),
	{"IPPROTO_TCP", "TCP_SYNCNT"}:       numberOption(tcpip.TCPSynCountOption),
	{"IPPROTO_TCP", "TCP_WINDOW_CLAMP"}: numberOption(tcpip.TCPWindowClampOption),
	{"IPPROTO_TCP", "TCP_FASTOPEN_KEY"}: {set: setFastOpenKey},
	{"IPPROTO_TCP", "TCP_CONGESTION"}:   {set: setCongestion, get: getCongestion},

	{"IPPROTO_IP", "IP_TOS"}:              numberOption(tcpip.IPv4TOSOption),
	{"IPPROTO_IP", "IP_TTL"}:              numberOption(tcpip.IPv4TTLOption),
	{"IPPROTO_IP", "IP_MTU_DISCOVER"}:     numberOption(tcpip.MTUDiscoverOption),
	{"IPPROTO_IPV6", "IPV6_TCLASS"}:       numberOption(tcpip.IPv6TrafficClassOption),
	{"IPPROTO_IPV6", "IPV6_UNICAST_HOPS"}: numberOption(tcpip.IPv6HopLimitOption),
	{"IPPROTO_IPV6", "IPV6_MTU_DISCOVER"}: numberOption(tcpip.MTUDiscoverOption),
	{"IPPROTO_IPV6", "IPV6_V6ONLY"}:       boolOption((*tcpip.SocketOptions).SetV6Only, (*tcpip.SocketOptions).GetV6Only),
}

// tcpNumbers are Linux's numbers of the options at level IPPROTO_TCP that
// netstack has no types for, or types that tell the endpoint nothing. An
// endpoint may have them by [TCPOptions].
var tcpNumbers = map[string]int{
	"TCP_SYNCNT":             7,
	"TCP_WINDOW_CLAMP":       10,
	"TCP_QUICKACK":           12,
	"TCP_MD5SIG":             14,
	"TCP_THIN_LINEAR":        16,
	"TCP_THIN_DUPACK":        17,
	"TCP_FASTOPEN":           23,
	"TCP_TIMESTAMP":          24,
	"TCP_NOTSENT_LOWAT":      25,
	"TCP_SAVE_SYN":           27,
	"TCP_FASTOPEN_CONNECT":   30,
	"TCP_FASTOPEN_NO_COOKIE": 34,
	"TCP_INQ":                36,
	"TCP_TX_DELAY":           37,
}

// extraOption returns the endpoint of a socket as one with options by number,
// and the number of an option, if it has both.
func extraOption(s *socket, level, name string) (TCPOptions, int, bool) {
	extra, has := s.ep.(TCPOptions)
	number, known := tcpNumbers[name]
	return extra, number, has && known && level == "IPPROTO_TCP"
}

// setOption prefers the options by number, since netstack tells an endpoint
// nothing about some of its own.
func (n *netstack) setOption(s *socket, c SetOption) (Pending, error) {
	value, isInt := c.Value.(int)
	if extra, number, ok := extraOption(s, c.Level, c.Name); ok && isInt {
		err := extra.SetTCPOptionInt(number, value)
		if _, unknown := err.(*tcpip.ErrUnknownProtocolOption); !unknown {
			return n.immediate(outcome(err)), nil
		}
	}
	if o, ok := options[optionName{c.Level, c.Name}]; ok && o.set != nil {
		return n.immediate(outcome(o.set(s, c.Value))), nil
	}
	return nil, Unsupportedf("setsockopt %s, %s", c.Level, c.Name)
}

func (n *netstack) getOption(s *socket, c GetOption) (Pending, error) {
	if extra, number, ok := extraOption(s, c.Level, c.Name); ok {
		v, err := extra.GetTCPOptionInt(number)
		if _, unknown := err.(*tcpip.ErrUnknownProtocolOption); !unknown {
			return n.optionResult(v, err), nil
		}
	}
	if o, ok := options[optionName{c.Level, c.Name}]; ok && o.get != nil {
		v, err := o.get(s)
		return n.optionResult(v, err), nil
	}
	return nil, Unsupportedf("getsockopt %s, %s", c.Level, c.Name)
}

// optionResult files the outcome of reading an option.
func (n *netstack) optionResult(v any, err tcpip.Error) Pending {
	if err != nil {
		return n.immediate(failed(err))
	}
	return n.immediate(Result{Option: v})
}

// bufferSize is what Linux makes of a size given to SO_SNDBUF or SO_RCVBUF:
// bounded by the maximum, doubled for overhead, no less than the minimum.
func bufferSize(v, low, high int64) int64 {
	return max(2*min(max(v, 0), high), low)
}

func setSendBuffer(s *socket, v int) tcpip.Error {
	low, high := s.ep.SocketOptions().SendBufferLimits()
	s.ep.SocketOptions().SetSendBufferSize(bufferSize(int64(v), low, high), true)
	return nil
}

func getSendBuffer(s *socket) (int, tcpip.Error) {
	return int(s.ep.SocketOptions().GetSendBufferSize()), nil
}

func setRecvBuffer(s *socket, v int) tcpip.Error {
	low, high := s.ep.SocketOptions().ReceiveBufferLimits()
	s.ep.SocketOptions().SetReceiveBufferSize(bufferSize(int64(v), low, high), true)
	return nil
}

func getRecvBuffer(s *socket) (int, tcpip.Error) {
	return int(s.ep.SocketOptions().GetReceiveBufferSize()), nil
}

// setRecvLowat is SO_RCVLOWAT. An endpoint without [RecvLowat] keeps the value
// and does nothing with it.
func setRecvLowat(s *socket, v int) tcpip.Error {
	if v < 0 {
		return &tcpip.ErrInvalidOptionValue{}
	}
	if e, ok := s.ep.(RecvLowat); ok {
		e.SetRcvLowat(v)
		return nil
	}
	return s.ep.SocketOptions().SetRcvlowat(int32(min(v, math.MaxInt32)))
}

func getRecvLowat(s *socket) (int, tcpip.Error) {
	if e, ok := s.ep.(RecvLowat); ok {
		return e.RcvLowat(), nil
	}
	return int(s.ep.SocketOptions().GetRcvlowat()), nil
}

// getError is SO_ERROR: its value is the name of the error that is pending,
// an Errno.
func getError(s *socket) (any, tcpip.Error) {
	return errnoOf(s.ep.SocketOptions().GetLastError()), nil
}

func setLinger(s *socket, v any) tcpip.Error {
	l, ok := v.(Linger)
	if !ok {
		return &tcpip.ErrInvalidOptionValue{}
	}
	s.ep.SocketOptions().SetLinger(tcpip.LingerOption{Enabled: l.On, Timeout: time.Duration(l.Seconds) * time.Second})
	return nil
}

func getLinger(s *socket) (any, tcpip.Error) {
	l := s.ep.SocketOptions().GetLinger()
	return Linger{On: l.Enabled, Seconds: int(l.Timeout / time.Second)}, nil
}

func getAcceptConn(s *socket) (any, tcpip.Error) {
	if s.ep.SocketOptions().GetAcceptConn() {
		return 1, nil
	}
	return 0, nil
}

// timeoutOption is an option that netstack leaves to the socket layer.
func timeoutOption(field func(*socket) *time.Duration) option {
	return option{
		set: func(s *socket, v any) tcpip.Error {
			d, ok := v.(time.Duration)
			if !ok || d < 0 {
				return &tcpip.ErrInvalidOptionValue{}
			}
			*field(s) = d
			return nil
		},
		get: func(s *socket) (any, tcpip.Error) { return *field(s), nil },
	}
}

func setCongestion(s *socket, v any) tcpip.Error {
	name, ok := v.(string)
	if !ok {
		return &tcpip.ErrInvalidOptionValue{}
	}
	cc := tcpip.CongestionControlOption(name)
	return s.ep.SetSockOpt(&cc)
}

func getCongestion(s *socket) (any, tcpip.Error) {
	var cc tcpip.CongestionControlOption
	err := s.ep.GetSockOpt(&cc)
	return string(cc), err
}
