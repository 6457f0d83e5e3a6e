package tcpx

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// ProtocolStats counts what gVisor's tcpip.TCPStats has no counter for. The counters may be read at any time.
type ProtocolStats struct {
	// ChallengeACKs counts challenge ACKs sent (RFC 5961), ChallengeACKsLimited those suppressed by the rate limit (RFC 5961 §7).
	ChallengeACKs, ChallengeACKsLimited tcpip.StatCounter
	// PAWSRejected counts segments rejected by PAWS (RFC 7323 §5), OutOfWindow those outside the receive window (RFC 9293 §3.10.7.4), OldDuplicates those
	// that held nothing new.
	PAWSRejected, OutOfWindow, OldDuplicates tcpip.StatCounter
	// AcksInvalid counts ACKs for what was never sent or too old (RFC 5961 §5.2).
	AcksInvalid tcpip.StatCounter
	// BadResets counts RSTs that were ignored (RFC 5961 §3).
	BadResets tcpip.StatCounter
	// DSACKsSent counts duplicates reported (RFC 2883), SACKReneging peers that took SACKed data back (RFC 2018 §8).
	DSACKsSent, SACKReneging tcpip.StatCounter
	// OutOfOrderDropped counts octets held out of order that were given up for lack of memory, ReceiveDropped segments dropped since the receive buffer was full.
	OutOfOrderDropped, ReceiveDropped tcpip.StatCounter
	// KeepAliveProbes, ZeroWindowProbes and DelayedACKs count segments sent for these reasons.
	KeepAliveProbes, ZeroWindowProbes, DelayedACKs tcpip.StatCounter
	// KeepAliveTimeouts, UserTimeouts and RTOAborts count connections given up: no answer to keep-alive, the user timeout (RFC 5482), too many retransmissions (R2).
	KeepAliveTimeouts, UserTimeouts, RTOAborts tcpip.StatCounter
	// DataAfterClose counts connections reset since data came after close (RFC 2525 §2.17).
	DataAfterClose tcpip.StatCounter
	// LinkRefused counts packets that the link had no room for; they were not lost but kept.
	LinkRefused tcpip.StatCounter
	// ICMPIgnored counts ICMP errors whose quoted sequence number was wrong (RFC 5927 §4), PMTUAccepted and PMTUIgnored "packet too big" errors.
	ICMPIgnored, PMTUAccepted, PMTUIgnored tcpip.StatCounter
	// PathProbes counts segments larger than the MSS that were sent to find the path's MTU, PathProbesLost those that did not arrive, BlackHoles how often large
	// segments vanished without an ICMP error (RFC 8899), InboundBlackHoles how often a peer's did on their way to us; see WithPMTU.
	PathProbes, PathProbesLost, BlackHoles, InboundBlackHoles tcpip.StatCounter
	// TimeWaitRecycled counts connections in TIME-WAIT that were forgotten early, TimeWaitReused those that a new SYN replaced (RFC 6191).
	TimeWaitRecycled, TimeWaitReused tcpip.StatCounter
	// CEReceived counts segments that came with the mark of congestion, CE, on a connection with ECN (RFC 3168 §5), ECNReductions windows reduced since the peer echoed
	// such marks.
	CEReceived, ECNReductions tcpip.StatCounter
	// FastOpenActive counts SYNs sent with data (RFC 7413), FastOpenActiveAccepted and FastOpenActiveRefused answers that took some of it, or none. FastOpenPassive counts
	// connections given to the user before their handshake was complete, FastOpenPassiveRefused cookies that were not good, FastOpenCookiesGiven those given to peers who asked,
	// and FastOpenOverflows SYNs that were handled as usual since the listener's limit was reached.
	FastOpenActive, FastOpenActiveAccepted, FastOpenActiveRefused                    tcpip.StatCounter
	FastOpenPassive, FastOpenPassiveRefused, FastOpenCookiesGiven, FastOpenOverflows tcpip.StatCounter
	// OrphansReset counts connections reset at close because there were too many orphans.
	OrphansReset tcpip.StatCounter
}

// StatsOf returns the counters of a stack's TCP, nil if it is not Plumbline's. They are live; the caller must not change them.
func StatsOf(s *stack.Stack) *ProtocolStats {
	if p := protocolOf(s); p != nil {
		return &p.stats
	}
	return nil
}

// count adds n to the counters that c stands for.
func (e *Endpoint) count(c tcb.Counter, n uint64) {
	if a, b := e.proto.counters(c); a != nil {
		a.IncrementBy(n)
		if b != nil {
			b.IncrementBy(n)
		}
	}
	switch c {
	case tcb.CountRetransmit:
		e.statistics().SendErrors.Retransmits.IncrementBy(n)
	case tcb.CountFastRetransmit:
		e.statistics().SendErrors.FastRetransmit.IncrementBy(n)
	case tcb.CountTimeout:
		e.statistics().SendErrors.Timeouts.IncrementBy(n)
	}
}

// countEnd counts how a connection ended (RFC 4022: tcpAttemptFails, tcpEstabResets). The caller holds e.mu.
func (e *Endpoint) countEnd() {
	reason := e.tcb.Err()
	switch last := e.EndpointState(); {
	case e.wasConnected && (last == tcp.StateEstablished || last == tcp.StateCloseWait) && reason != tcb.ReasonNone:
		e.proto.tcpStats.EstablishedResets.Increment()
	case !e.wasConnected && reason != tcb.ReasonAborted && (reason != tcb.ReasonNone || e.parent != nil):
		e.proto.tcpStats.FailedConnectionAttempts.Increment()
		e.statistics().FailedConnectionAttempts.Increment()
		if e.parent != nil {
			e.parent.statistics().FailedConnectionAttempts.Increment()
		}
	}
}

// counters maps the core's counters to the stack's and to ours.
func (p *protocol) counters(c tcb.Counter) (a, b *tcpip.StatCounter) {
	st, own := &p.tcpStats, &p.stats
	switch c {
	case tcb.CountRetransmit:
		return st.Retransmits, nil
	case tcb.CountFastRetransmit:
		return st.FastRetransmit, nil
	case tcb.CountTimeout:
		return st.Timeouts, nil
	case tcb.CountRTOAbort:
		return &own.RTOAborts, st.EstablishedTimedout
	case tcb.CountFastRecovery:
		return st.FastRecovery, nil
	case tcb.CountSACKRecovery:
		return st.SACKRecovery, nil
	case tcb.CountTLPRecovery:
		return st.TLPRecovery, nil
	case tcb.CountSpuriousRecovery:
		return st.SpuriousRecovery, nil
	case tcb.CountSpuriousRTO:
		return st.SpuriousRTORecovery, nil
	case tcb.CountSlowStartRetransmit:
		return st.SlowStartRetransmits, nil
	case tcb.CountChallengeACK:
		return &own.ChallengeACKs, nil
	case tcb.CountChallengeACKLimited:
		return &own.ChallengeACKsLimited, nil
	case tcb.CountPAWSRejected:
		return &own.PAWSRejected, nil
	case tcb.CountOutOfWindow:
		return &own.OutOfWindow, nil
	case tcb.CountOldDuplicate:
		return &own.OldDuplicates, nil
	case tcb.CountDSACKSent:
		return &own.DSACKsSent, nil
	case tcb.CountDSACKReceived:
		return st.SegmentsAckedWithDSACK, nil
	case tcb.CountSACKReneging:
		return &own.SACKReneging, nil
	case tcb.CountBadReset:
		return &own.BadResets, nil
	case tcb.CountOutOfOrderDropped:
		return &own.OutOfOrderDropped, nil
	case tcb.CountReceiveDropped:
		return &own.ReceiveDropped, nil
	case tcb.CountKeepAliveProbe:
		return &own.KeepAliveProbes, nil
	case tcb.CountKeepAliveTimeout:
		return &own.KeepAliveTimeouts, st.EstablishedTimedout
	case tcb.CountUserTimeout:
		return &own.UserTimeouts, st.EstablishedTimedout
	case tcb.CountZeroWindowProbe:
		return &own.ZeroWindowProbes, nil
	case tcb.CountDelayedACK:
		return &own.DelayedACKs, nil
	case tcb.CountDataAfterClose:
		return &own.DataAfterClose, nil
	case tcb.CountICMPIgnored:
		return &own.ICMPIgnored, nil
	case tcb.CountPathProbe:
		return &own.PathProbes, nil
	case tcb.CountPathProbeLost:
		return &own.PathProbesLost, nil
	case tcb.CountBlackHole:
		return &own.BlackHoles, nil
	case tcb.CountICMPPMTU:
		return &own.PMTUAccepted, nil
	case tcb.CountAckInvalid:
		return &own.AcksInvalid, nil
	case tcb.CountCE:
		return &own.CEReceived, nil
	case tcb.CountECNReduction:
		return &own.ECNReductions, nil
	}
	// RSTs are counted where they are parsed and sent, refusals of the link where they happen, and how connections end in countEnd.
	return nil, nil
}

// statistics returns the endpoint's own counters and makes them if need be: they are large, and most connections never count anything.
func (e *Endpoint) statistics() *tcp.Stats {
	if s := e.stats.Load(); s != nil {
		return s
	}
	e.stats.CompareAndSwap(nil, new(tcp.Stats))
	return e.stats.Load()
}

// Stats implements tcpip.Endpoint.Stats. The result is a *tcp.Stats of gVisor; it is live but for the numbers of segments, which each call brings up to date.
func (e *Endpoint) Stats() tcpip.EndpointStats {
	s := e.statistics()
	e.lock()
	defer e.leave()
	var i Info
	e.tcb.FillInfo(e.proto.now(), &i)
	received, sent := uint64(i.SegsIn), uint64(i.SegsOut)
	if e.lst != nil {
		received += e.lst.segments
	}
	// The core's counts are of 32 bits and may have wrapped.
	s.SegmentsReceived.IncrementBy(uint64(uint32(received - s.SegmentsReceived.Value())))
	s.SegmentsSent.IncrementBy(uint64(uint32(sent - s.SegmentsSent.Value())))
	return s
}
