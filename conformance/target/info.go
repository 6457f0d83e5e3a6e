package target

import (
	"time"

	"github.com/plumbline/plumbline/tcpx"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// Info implements [Target].
func (n *netstack) Info(fd FD) (Info, error) {
	s, ok := n.fds[fd].(*socket)
	if !ok {
		return nil, Unsupportedf("TCP_INFO of descriptor %d, which is no socket", fd)
	}
	switch e := s.ep.(type) {
	case TCPInfo:
		return e.TCPInfo(), nil
	case *tcpx.Endpoint:
		return tcpxInfo(e.TCPInfo()), nil
	}
	var o tcpip.TCPInfoOption
	if err := s.ep.GetSockOpt(&o); err != nil {
		return nil, Unsupportedf("TCP_INFO: %v", err)
	}
	return infoFromOption(o), nil
}

// infoFromOption translates what gVisor's own option tells.
func infoFromOption(o tcpip.TCPInfoOption) Info {
	return Info{
		"state":        linuxState(tcp.EndpointState(o.State)),
		"ca_state":     linuxCAState(o.CcState),
		"rtt":          int64(o.RTT / time.Microsecond),
		"rttvar":       int64(o.RTTVar / time.Microsecond),
		"rto":          int64(o.RTO / time.Microsecond),
		"snd_cwnd":     int64(o.SndCwnd),
		"snd_ssthresh": int64(o.SndSsthresh),
	}
}

// linuxState returns Linux's number of a state. Those of RFC 9293 have the
// same number in both; what is internal to netstack is closed.
func linuxState(s tcp.EndpointState) int64 {
	if s > tcp.StateClosing {
		return int64(tcp.StateClose)
	}
	return int64(s)
}

// linuxCAState returns Linux's number of a state of congestion control.
func linuxCAState(s tcpip.CongestionControlState) int64 {
	const open, disorder, recovery, loss = 0, 1, 3, 4
	switch s {
	case tcpip.Disorder:
		return disorder
	case tcpip.FastRecovery, tcpip.SACKRecovery:
		return recovery
	case tcpip.RTORecovery:
		return loss
	default:
		return open
	}
}
