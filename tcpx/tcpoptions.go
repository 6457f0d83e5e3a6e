package tcpx

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// Linux's numbers for the options of level IPPROTO_TCP, for SetTCPOptionInt and GetTCPOptionInt. Times are in the unit that Linux has for the option.
const (
	OptNoDelay      = 1  // TCP_NODELAY: bool
	OptMaxSeg       = 2  // TCP_MAXSEG: bytes
	OptCork         = 3  // TCP_CORK: bool
	OptKeepIdle     = 4  // TCP_KEEPIDLE: seconds
	OptKeepIntvl    = 5  // TCP_KEEPINTVL: seconds
	OptKeepCnt      = 6  // TCP_KEEPCNT
	OptSynCnt       = 7  // TCP_SYNCNT
	OptLinger2      = 8  // TCP_LINGER2: seconds
	OptDeferAccept  = 9  // TCP_DEFER_ACCEPT: seconds
	OptWindowClamp  = 10 // TCP_WINDOW_CLAMP: bytes
	OptQuickAck     = 12 // TCP_QUICKACK: bool
	OptUserTimeout  = 18 // TCP_USER_TIMEOUT: milliseconds
	OptNotSentLowat = 25 // TCP_NOTSENT_LOWAT: bytes
	OptInq          = 36 // TCP_INQ, to get: unread bytes

	// OptFastOpen (TCP_FASTOPEN) makes a listener take part in Fast Open, if the stack is a server of it (see FastOpenConfig): the value bounds the connections whose handshake is
	// not complete, beyond which the handshake is the usual one. 0 keeps it out.
	OptFastOpen = 23
	// OptFastOpenConnect (TCP_FASTOPEN_CONNECT, bool) makes Connect return without an error, and without a packet, if there is a cookie of the server: the SYN leaves with the first
	// Write. It must be set before. The socket is writable meanwhile; a Read makes the SYN leave without data before long.
	OptFastOpenConnect = 30
	// OptFastOpenNoCookie (TCP_FASTOPEN_NO_COOKIE, bool) does without cookies: see FastOpenConfig.
	OptFastOpenNoCookie = 34

	OptRTOMaxMs = 44 // TCP_RTO_MAX_MS: milliseconds
	OptRTOMinUs = 45 // TCP_RTO_MIN_US: microseconds
)

// maxOptionSeconds bounds options in seconds, as Linux does for keep-alive.
const maxOptionSeconds = 32767

// SetTCPOptionInt sets an option of level IPPROTO_TCP by Linux's number (the Opt constants), among them those that tcpip has no type for. It returns
// ErrInvalidOptionValue for a value out of range and ErrUnknownProtocolOption for a number it does not know.
func (e *Endpoint) SetTCPOptionInt(opt, v int) tcpip.Error {
	invalid := &tcpip.ErrInvalidOptionValue{}
	switch opt {
	case OptNoDelay:
		e.ops.SetDelayOption(v == 0)
	case OptMaxSeg:
		return e.SetSockOptInt(tcpip.MaxSegOption, v)
	case OptCork:
		e.ops.SetCorkOption(v != 0)
	case OptKeepIdle, OptKeepIntvl:
		if v < 1 || v > maxOptionSeconds {
			return invalid
		}
		d := time.Duration(v) * time.Second
		e.setting(func(s *tcb.Settings) {
			if opt == OptKeepIdle {
				s.Tune().KeepIdle = d
			} else {
				s.Tune().KeepIntvl = d
			}
		})
	case OptKeepCnt:
		if v < 1 || v > 127 {
			return invalid
		}
		return e.SetSockOptInt(tcpip.KeepaliveCountOption, v)
	case OptSynCnt:
		return e.SetSockOptInt(tcpip.TCPSynCountOption, v)
	case OptLinger2:
		e.setLinger2(time.Duration(v) * time.Second)
	case OptDeferAccept:
		o := tcpip.TCPDeferAcceptOption(time.Duration(max(v, 0)) * time.Second)
		return e.SetSockOpt(&o)
	case OptWindowClamp:
		return e.SetSockOptInt(tcpip.TCPWindowClampOption, v)
	case OptQuickAck:
		e.ops.SetQuickAck(v != 0)
		e.lock()
		e.setQuickAck(v != 0)
		e.collect()
		e.leave()
	case OptUserTimeout:
		if v < 0 {
			return invalid
		}
		e.setting(func(s *tcb.Settings) { s.Tune().UserTimeout = time.Duration(v) * time.Millisecond })
	case OptNotSentLowat:
		// Linux takes the value as unsigned: -1 means no bound.
		e.setting(func(s *tcb.Settings) { s.Tune().NotSentLowat = max(v, 0) })
	case OptRTOMaxMs:
		if d := time.Duration(v) * time.Millisecond; d >= time.Second && d <= defaultMaxRTO {
			e.setting(func(s *tcb.Settings) { s.Tune().MaxRTO = d })
			return nil
		}
		return invalid
	case OptRTOMinUs:
		if v <= 0 || time.Duration(v)*time.Microsecond > defaultMaxRTO {
			return invalid
		}
		e.setting(func(s *tcb.Settings) { s.Tune().MinRTO = time.Duration(v) * time.Microsecond })
	case OptFastOpen, OptFastOpenConnect, OptFastOpenNoCookie:
		return e.setFastOpen(opt, v)
	default:
		return &tcpip.ErrUnknownProtocolOption{}
	}
	return nil
}

// GetTCPOptionInt returns an option of level IPPROTO_TCP by Linux's number. It returns ErrUnknownProtocolOption for a number it does not know.
func (e *Endpoint) GetTCPOptionInt(opt int) (int, tcpip.Error) {
	switch opt {
	case OptNoDelay:
		return boolInt(!e.ops.GetDelayOption()), nil
	case OptMaxSeg:
		return e.GetSockOptInt(tcpip.MaxSegOption)
	case OptCork:
		return boolInt(e.ops.GetCorkOption()), nil
	case OptQuickAck:
		return boolInt(e.ops.GetQuickAck()), nil
	case OptInq:
		return e.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	case OptFastOpen, OptFastOpenConnect, OptFastOpenNoCookie:
		return e.getFastOpen(opt), nil
	}
	e.lock()
	defer e.leave()
	s := &e.tcb.Settings
	switch opt {
	case OptKeepIdle:
		return int(s.KeepIdle / time.Second), nil
	case OptKeepIntvl:
		return int(s.KeepIntvl / time.Second), nil
	case OptKeepCnt:
		return s.KeepCount, nil
	case OptSynCnt:
		return s.SynRetries, nil
	case OptLinger2:
		if s.Linger2 < 0 {
			return -1, nil
		}
		return int(s.Linger2 / time.Second), nil
	case OptDeferAccept:
		return int(s.DeferAccept / time.Second), nil
	case OptWindowClamp:
		return s.WindowClamp, nil
	case OptUserTimeout:
		return int(s.UserTimeout / time.Millisecond), nil
	case OptNotSentLowat:
		return s.NotSentLowat, nil
	case OptRTOMaxMs:
		return int(orDefault(s.MaxRTO, e.currentConfig().MaxRTO) / time.Millisecond), nil
	case OptRTOMinUs:
		return int(orDefault(s.MinRTO, e.currentConfig().MinRTO) / time.Microsecond), nil
	}
	return 0, &tcpip.ErrUnknownProtocolOption{}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// SetRcvLowat sets SO_RCVLOWAT: the socket counts as readable when at least n bytes can be read, or when no more will come. n below 1 means 1; more than
// half of the receive buffer is cut to that, since it could never come. Reads return less than n if they are made earlier.
func (e *Endpoint) SetRcvLowat(n int) {
	e.setting(func(s *tcb.Settings) { s.Tune().RcvLowat = min(max(n, 1), max(s.RcvBuf/2, 1)) })
}

// RcvLowat returns SO_RCVLOWAT.
func (e *Endpoint) RcvLowat() int {
	e.lock()
	defer e.leave()
	return e.tcb.RcvLowat
}
