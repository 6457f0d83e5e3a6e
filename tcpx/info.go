package tcpx

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// Info is a connection's state in full, as Linux's struct tcp_info has it.
type Info = tcb.Info

// TCPInfo returns the connection's state in full; GetSockOpt(*tcpip.TCPInfoOption) has room for a part of it only.
func (e *Endpoint) TCPInfo() Info {
	e.lock()
	defer e.leave()
	var i Info
	e.tcb.FillInfo(e.proto.now(), &i)
	if s := e.stateLocked(); s == tcp.StateListen {
		i.State = tcb.StateListen
	} else if e.phase != phaseOpen {
		i.State = tcb.StateClosed
	}
	if i.Congestion == "" {
		i.Congestion = e.congestion.Value()
	}
	return i
}

// infoOption fills gVisor's option.
func (e *Endpoint) infoOption() tcpip.TCPInfoOption {
	i := e.TCPInfo()
	return tcpip.TCPInfoOption{
		RTT:         i.RTT,
		RTTVar:      i.RTTVar,
		RTO:         i.RTO,
		State:       tcpip.EndpointState(i.State),
		CcState:     caState(&i),
		SndCwnd:     i.SndCwnd,
		SndSsthresh: i.SndSsthresh,
		ReorderSeen: i.ReordSeen > 0,
	}
}

// caState translates Linux's congestion states to gVisor's.
func caState(i *Info) tcpip.CongestionControlState {
	switch i.CAState {
	case 1:
		return tcpip.Disorder
	case 2, 3:
		if i.OptSACK {
			return tcpip.SACKRecovery
		}
		return tcpip.FastRecovery
	case 4:
		return tcpip.RTORecovery
	}
	return tcpip.Open
}
