package tcpx

import (
	"slices"
	"time"
	"unique"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// change makes changed settings take effect and lets go of e.mu, which the caller holds.
func (e *Endpoint) change() {
	if e.phase == phaseOpen {
		e.tcb.SettingsChanged(e.proto.now())
		e.collect()
	}
	e.leave()
}

// setting changes the settings under the lock.
func (e *Endpoint) setting(f func(s *tcb.Settings)) {
	e.lock()
	f(&e.tcb.Settings)
	e.change()
}

// OnReuseAddressSet implements tcpip.SocketOptionsHandler.
func (e *Endpoint) OnReuseAddressSet(v bool) {
	e.lock()
	e.bound.flags.TupleOnly = v
	e.leave()
}

// OnReusePortSet implements tcpip.SocketOptionsHandler.
func (e *Endpoint) OnReusePortSet(v bool) {
	e.lock()
	e.bound.flags.LoadBalanced = v
	e.leave()
}

// OnKeepAliveSet implements tcpip.SocketOptionsHandler.
func (e *Endpoint) OnKeepAliveSet(v bool) {
	e.setting(func(s *tcb.Settings) { s.KeepAlive = v })
}

// OnDelayOptionSet implements tcpip.SocketOptionsHandler; v is the opposite of TCP_NODELAY.
func (e *Endpoint) OnDelayOptionSet(v bool) {
	e.setting(func(s *tcb.Settings) { s.NoDelay = !v })
	if !v {
		// Setting TCP_NODELAY also sends what is held back, even by TCP_CORK.
		e.lock()
		e.tcb.Push(e.proto.now())
		e.leave()
	}
}

// OnCorkOptionSet implements tcpip.SocketOptionsHandler.
func (e *Endpoint) OnCorkOptionSet(v bool) {
	e.setting(func(s *tcb.Settings) { s.Cork = v })
}

// HasNIC implements tcpip.SocketOptionsHandler.
func (e *Endpoint) HasNIC(id int32) bool { return id == 0 || e.proto.stack.HasNIC(tcpip.NICID(id)) }

// OnSetSendBufferSize implements tcpip.SocketOptionsHandler. A size that the user chose ends auto-tuning.
func (e *Endpoint) OnSetSendBufferSize(size int64) int64 {
	size = max(size, 1)
	e.setting(func(s *tcb.Settings) { s.SndBuf, s.SndBufLocked = int(size), true })
	return size
}

// OnSetReceiveBufferSize implements tcpip.SocketOptionsHandler. A size that the user chose ends auto-tuning.
func (e *Endpoint) OnSetReceiveBufferSize(size, _ int64) (int64, func()) {
	size = max(size, 1)
	e.setting(func(s *tcb.Settings) { s.RcvBuf, s.RcvBufLocked = int(size), true })
	return size, nil
}

// WakeupWriters implements tcpip.SocketOptionsHandler: there may be more room now.
func (e *Endpoint) WakeupWriters() {
	e.lock()
	if e.phase == phaseOpen && e.tcb.WriteSpace() > 0 {
		e.events |= tcb.EventWritable
	}
	e.leave()
}

// publishBuffers shows the sizes that auto-tuning has reached as SO_RCVBUF and SO_SNDBUF. The caller holds e.mu.
func (e *Endpoint) publishBuffers() {
	if n := int64(e.tcb.RcvBuf); !e.tcb.RcvBufLocked && n != e.ops.GetReceiveBufferSize() {
		e.ops.SetReceiveBufferSize(n, false)
	}
	if n := int64(e.tcb.SndBuf); !e.tcb.SndBufLocked && n != e.ops.GetSendBufferSize() {
		e.ops.SetSendBufferSize(n, false)
	}
}

// setQuickAck passes TCP_QUICKACK on. The caller holds e.mu.
func (e *Endpoint) setQuickAck(on bool) {
	e.quickAck = on
	e.tcb.QuickAck = 2
	if on {
		e.tcb.QuickAck = 1
	}
	e.tcb.SettingsChanged(e.proto.now())
}

// ecnMask are the bits of the TOS that belong to ECN (RFC 3168 §5) and not to the user.
const ecnMask = 3

// SetSockOptInt implements tcpip.Endpoint.SetSockOptInt. It returns ErrInvalidOptionValue for a value out of range and ErrUnknownProtocolOption for an option
// that TCP does not have.
func (e *Endpoint) SetSockOptInt(opt tcpip.SockOptInt, v int) tcpip.Error {
	invalid := &tcpip.ErrInvalidOptionValue{}
	switch opt {
	case tcpip.KeepaliveCountOption:
		e.setting(func(s *tcb.Settings) { s.Tune().KeepCount = v })
	case tcpip.IPv4TOSOption, tcpip.IPv6TrafficClassOption:
		e.lock()
		e.tos = uint8(v) &^ ecnMask
		e.leave()
	case tcpip.MaxSegOption:
		if v < minMSS || v > maxMSS {
			return invalid
		}
		e.lock()
		e.userMSS = uint16(v)
		e.leave()
	case tcpip.MTUDiscoverOption:
		switch s := tcpip.PMTUDStrategy(v); s {
		case tcpip.PMTUDiscoveryWant, tcpip.PMTUDiscoveryDont, tcpip.PMTUDiscoveryDo, tcpip.PMTUDiscoveryProbe:
			e.lock()
			e.pmtud = uint8(s)
			e.leave()
		default:
			return &tcpip.ErrNotSupported{}
		}
	case tcpip.IPv4TTLOption:
		e.lock()
		e.ipv4TTL = uint8(v)
		e.leave()
	case tcpip.IPv6HopLimitOption:
		e.lock()
		e.hopLimit = int16(v)
		e.leave()
	case tcpip.TCPSynCountOption:
		if v < 1 || v > 255 {
			return invalid
		}
		e.setting(func(s *tcb.Settings) { s.Tune().SynRetries = v })
	case tcpip.TCPWindowClampOption:
		return e.setWindowClamp(v)
	case tcpip.MulticastTTLOption:
		// A socket layer may set it on any socket; TCP sends no multicast.
	default:
		return &tcpip.ErrUnknownProtocolOption{}
	}
	return nil
}

// setWindowClamp bounds the advertised window. 0 takes the bound away, which only a new or closed socket may do, as on Linux; the least bound is half the smallest
// receive buffer.
func (e *Endpoint) setWindowClamp(v int) tcpip.Error {
	e.proto.mu.RLock()
	least := e.proto.opts.rcvBuf.Min / 2
	e.proto.mu.RUnlock()
	e.lock()
	if v != 0 {
		e.tcb.Tune().WindowClamp = max(v, least)
		e.change()
		return nil
	}
	defer e.leave()
	if e.phase != phaseInitial && e.phase != phaseClosed {
		return &tcpip.ErrInvalidOptionValue{}
	}
	e.tcb.Tune().WindowClamp = 0
	return nil
}

// GetSockOptInt implements tcpip.Endpoint.GetSockOptInt.
func (e *Endpoint) GetSockOptInt(opt tcpip.SockOptInt) (int, tcpip.Error) {
	e.lock()
	defer e.leave()
	switch opt {
	case tcpip.KeepaliveCountOption:
		return e.tcb.KeepCount, nil
	case tcpip.IPv4TOSOption, tcpip.IPv6TrafficClassOption:
		return int(e.tos), nil
	case tcpip.MaxSegOption:
		return e.maxSegLocked(), nil
	case tcpip.MTUDiscoverOption:
		return int(e.pmtud), nil
	case tcpip.ReceiveQueueSizeOption:
		if e.phase == phaseListen {
			return 0, &tcpip.ErrInvalidEndpointState{}
		}
		return e.tcb.ReadSize(), nil
	case tcpip.SendQueueSizeOption:
		if e.phase == phaseListen {
			return 0, &tcpip.ErrInvalidEndpointState{}
		}
		return e.tcb.SendQueueSize(), nil
	case tcpip.IPv4TTLOption:
		return int(e.ipv4TTL), nil
	case tcpip.IPv6HopLimitOption:
		return int(e.hopLimit), nil
	case tcpip.TCPSynCountOption:
		return e.tcb.SynRetries, nil
	case tcpip.TCPWindowClampOption:
		return e.tcb.WindowClamp, nil
	case tcpip.MulticastTTLOption:
		return 1, nil
	}
	return -1, &tcpip.ErrUnknownProtocolOption{}
}

// maxSegLocked returns TCP_MAXSEG: the MSS in use, or what the user set while there is no connection. The caller holds e.mu.
func (e *Endpoint) maxSegLocked() int {
	if e.phase == phaseOpen {
		var i Info
		e.tcb.FillInfo(e.proto.now(), &i)
		if i.SndMSS != 0 {
			return int(i.SndMSS)
		}
	}
	if e.userMSS != 0 {
		return int(e.userMSS)
	}
	return 536
}

// UnsentQueueSize returns how much was written and never sent, in bytes (SIOCOUTQNSD).
func (e *Endpoint) UnsentQueueSize() int { return int(e.TCPInfo().NotsentBytes) }

// SetSockOpt implements tcpip.Endpoint.SetSockOpt. Besides stock's options it takes those that stock ignores: TCPMinRTOOption, TCPMaxRTOOption,
// TCPMaxRetriesOption, TCPSynRetriesOption, TCPTimeWaitTimeoutOption and TCPTimeWaitReuseOption; the last two must be set before the connection is opened.
func (e *Endpoint) SetSockOpt(opt tcpip.SettableSocketOption) tcpip.Error {
	switch v := opt.(type) {
	case *tcpip.KeepaliveIdleOption:
		e.setting(func(s *tcb.Settings) { s.Tune().KeepIdle = time.Duration(*v) })
	case *tcpip.KeepaliveIntervalOption:
		e.setting(func(s *tcb.Settings) { s.Tune().KeepIntvl = time.Duration(*v) })
	case *tcpip.TCPUserTimeoutOption:
		e.setting(func(s *tcb.Settings) { s.Tune().UserTimeout = time.Duration(*v) })
	case *tcpip.CongestionControlOption:
		return e.setCongestion(string(*v))
	case *tcpip.TCPLingerTimeoutOption:
		*v = tcpip.TCPLingerTimeoutOption(e.setLinger2(time.Duration(*v)))
	case *tcpip.TCPDeferAcceptOption:
		*v = tcpip.TCPDeferAcceptOption(min(time.Duration(*v), defaultMaxRTO))
		e.setting(func(s *tcb.Settings) { s.Tune().DeferAccept = time.Duration(*v) })
	case *tcpip.SocketDetachFilterOption:
		// There is no filter.
	case *tcpip.TCPTimeWaitTimeoutOption:
		e.lock()
		defer e.leave()
		c := *e.currentConfig()
		c.TimeWait = max(time.Duration(*v), 0)
		e.makeExtra().config = &c
	case *tcpip.TCPTimeWaitReuseOption:
		if *v < tcpip.TCPTimeWaitReuseDisabled || *v > tcpip.TCPTimeWaitReuseLoopbackOnly {
			return &tcpip.ErrInvalidOptionValue{}
		}
		e.lock()
		defer e.leave()
		reuse := *v
		e.makeExtra().timeWaitReuse = &reuse
	default:
		return e.setRetransmission(opt)
	}
	return nil
}

// setRetransmission sets this socket's RTO bounds and retry limits.
func (e *Endpoint) setRetransmission(opt tcpip.SettableSocketOption) tcpip.Error {
	switch v := opt.(type) {
	case *tcpip.TCPMinRTOOption:
		e.setting(func(s *tcb.Settings) { s.Tune().MinRTO = max(time.Duration(*v), 0) })
	case *tcpip.TCPMaxRTOOption:
		e.setting(func(s *tcb.Settings) { s.Tune().MaxRTO = max(time.Duration(*v), 0) })
	case *tcpip.TCPMaxRetriesOption:
		e.setting(func(s *tcb.Settings) { s.Tune().MaxRetries = int(min(uint64(*v), 1<<16)) })
	case *tcpip.TCPSynRetriesOption:
		if *v < 1 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		e.setting(func(s *tcb.Settings) { s.Tune().SynRetries = int(*v) })
	default:
		return &tcpip.ErrUnknownProtocolOption{}
	}
	return nil
}

// setCongestion chooses the congestion control algorithm, of a live connection as well.
func (e *Endpoint) setCongestion(name string) tcpip.Error {
	if !slices.Contains(congestion.Names(), name) {
		return &tcpip.ErrNoSuchFile{} // As Linux.
	}
	e.lock()
	defer e.leave()
	if e.phase == phaseOpen && e.congestion.Value() != name {
		e.tcb.SetController(e.proto.now(), newController(name))
		e.collect()
	}
	e.congestion = unique.Make(name)
	return nil
}

// setLinger2 sets TCP_LINGER2: negative means not at all, 0 the protocol's value. It returns what was set.
func (e *Endpoint) setLinger2(d time.Duration) time.Duration {
	switch {
	case d < 0:
		d = -1
	case d == 0:
		e.proto.mu.RLock()
		d = e.proto.opts.linger2
		e.proto.mu.RUnlock()
	default:
		d = min(d, maxLinger2)
	}
	e.setting(func(s *tcb.Settings) { s.Tune().Linger2 = d })
	return d
}

// GetSockOpt implements tcpip.Endpoint.GetSockOpt.
func (e *Endpoint) GetSockOpt(opt tcpip.GettableSocketOption) tcpip.Error {
	if info, ok := opt.(*tcpip.TCPInfoOption); ok {
		*info = e.infoOption()
		return nil
	}
	e.lock()
	defer e.leave()
	s := &e.tcb.Settings
	switch o := opt.(type) {
	case *tcpip.KeepaliveIdleOption:
		*o = tcpip.KeepaliveIdleOption(s.KeepIdle)
	case *tcpip.KeepaliveIntervalOption:
		*o = tcpip.KeepaliveIntervalOption(s.KeepIntvl)
	case *tcpip.TCPUserTimeoutOption:
		*o = tcpip.TCPUserTimeoutOption(s.UserTimeout)
	case *tcpip.CongestionControlOption:
		*o = tcpip.CongestionControlOption(e.congestion.Value())
	case *tcpip.TCPLingerTimeoutOption:
		*o = tcpip.TCPLingerTimeoutOption(s.Linger2)
	case *tcpip.TCPDeferAcceptOption:
		*o = tcpip.TCPDeferAcceptOption(s.DeferAccept)
	case *tcpip.TCPMinRTOOption:
		*o = tcpip.TCPMinRTOOption(orDefault(s.MinRTO, e.currentConfig().MinRTO))
	case *tcpip.TCPMaxRTOOption:
		*o = tcpip.TCPMaxRTOOption(orDefault(s.MaxRTO, e.currentConfig().MaxRTO))
	case *tcpip.TCPMaxRetriesOption:
		*o = tcpip.TCPMaxRetriesOption(orDefault(s.MaxRetries, e.currentConfig().MaxRetries))
	case *tcpip.TCPSynRetriesOption:
		*o = tcpip.TCPSynRetriesOption(s.SynRetries)
	case *tcpip.TCPTimeWaitTimeoutOption:
		*o = tcpip.TCPTimeWaitTimeoutOption(e.currentConfig().TimeWait)
	case *tcpip.OriginalDestinationOption:
		addr, port, err := e.proto.stack.IPTables().OriginalDst(e.id, e.netProto, ProtocolNumber)
		if err != nil {
			return err
		}
		*o = tcpip.OriginalDestinationOption{Addr: addr, Port: port}
	default:
		return &tcpip.ErrUnknownProtocolOption{}
	}
	return nil
}

func orDefault[T comparable](v, deflt T) T {
	var zero T
	if v == zero {
		return deflt
	}
	return v
}

// SetMaxPacingRate bounds the sending rate in bytes per second (SO_MAX_PACING_RATE); 0 takes the bound away.
func (e *Endpoint) SetMaxPacingRate(bytesPerSecond uint64) {
	e.setting(func(s *tcb.Settings) { s.Tune().MaxPacingRate = bytesPerSecond })
}

// EndpointState returns the state as gVisor's type.
func (e *Endpoint) EndpointState() tcp.EndpointState { return tcp.EndpointState(e.State()) }
