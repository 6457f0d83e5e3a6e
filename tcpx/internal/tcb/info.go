package tcb

import (
	"cmp"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Info is a connection's state for people and programs: the fields of Linux's tcp_info under their names, times as durations, rates in bytes per second.
type Info struct {
	// State is the connection state.
	State State
	// CAState is Linux's congestion state: 0 Open, 1 Disorder, 2 CWR, 3 Recovery, 4 Loss.
	CAState uint8
	// Retransmits counts time-outs in a row without progress; Probes zero-window or keep-alive probes without an answer; Backoff the RTO doublings in force.
	Retransmits, Probes, Backoff uint8
	// OptTimestamps, OptSACK, OptWindowScale tell what was negotiated.
	OptTimestamps, OptSACK, OptWindowScale bool
	// OptECN tells that ECN is in use, OptAccECN that it is the accurate one (RFC 9768).
	OptECN, OptAccECN bool
	// OptSynData tells that all text on a SYN, ours or the peer's, was acknowledged by the SYN-ACK (RFC 7413); OptFastOpenChild that the connection came from a listener
	// that took a Fast Open cookie.
	OptSynData, OptFastOpenChild bool
	// SndWScale and RcvWScale are the shift counts.
	SndWScale, RcvWScale uint8
	// DeliveryRateAppLimited tells that DeliveryRate was taken while the application limited sending.
	DeliveryRateAppLimited bool

	// RTO, ATO are the retransmission time-out and the delayed-ACK time.
	RTO, ATO time.Duration
	// SndMSS and RcvMSS are the effective send MSS and the largest segment received lately, AdvMSS what we announced, in bytes.
	SndMSS, RcvMSS, AdvMSS uint32
	// Unacked, Sacked, Lost, Retrans are in segments, as in Linux: outstanding, SACKed, marked lost, retransmitted and outstanding.
	Unacked, Sacked, Lost, Retrans uint32
	// LastDataSent, LastDataRecv, LastAckRecv are the times since; LastDataRecv counts from the handshake until data comes.
	LastDataSent, LastDataRecv, LastAckRecv time.Duration
	// PMTU is the path MTU bound as payload plus options, in bytes.
	PMTU uint32
	// SndCwnd and SndSsthresh are in segments; SndSsthresh is 2147483647 while unlimited. SndCwndBytes is exact.
	SndCwnd, SndSsthresh uint32
	SndCwndBytes         uint64
	// RTT and RTTVar are the smoothed estimate and its variation, MinRTT the minimum, RcvRTT the receiver's estimate.
	RTT, RTTVar, MinRTT, RcvRTT time.Duration
	// RcvSpace is the auto-tuning estimate, RcvWnd the advertised window, SndWnd the peer's, RcvSsthresh the window clamp in force, in bytes.
	RcvSpace, RcvWnd, SndWnd, RcvSsthresh uint32
	// Reordering is the reordering degree in segments (3 if none was seen); ReordSeen counts reordering events.
	Reordering, ReordSeen uint32
	// TotalRetrans counts retransmitted segments.
	TotalRetrans uint32
	// PacingRate, MaxPacingRate, DeliveryRate in bytes per second.
	PacingRate, MaxPacingRate, DeliveryRate uint64
	// BytesAcked, BytesReceived, BytesSent, BytesRetrans count payload.
	BytesAcked, BytesReceived, BytesSent, BytesRetrans uint64
	// SegsOut, SegsIn, DataSegsOut, DataSegsIn count segments.
	SegsOut, SegsIn, DataSegsOut, DataSegsIn uint32
	// BusyTime is how long there was something to send or to be acknowledged; of that RwndLimited is how long the peer's window, SndbufLimited how long the send
	// buffer was what limited sending.
	BusyTime, RwndLimited, SndbufLimited time.Duration
	// NotsentBytes is what is queued and was never sent.
	NotsentBytes uint32
	// Delivered counts segments delivered, our SYN among them as in Linux, DeliveredCE those of them that accurate ECN tells were marked.
	Delivered, DeliveredCE uint32
	// DSACKDups counts DSACKs received; RcvOOOPack segments received out of order.
	DSACKDups, RcvOOOPack uint32
	// Congestion is the name of the congestion controller.
	Congestion string
}

// infiniteSsthresh is how tcp_info shows a slow start threshold that was never set.
const infiniteSsthresh = 0x7fffffff

// FillInfo fills i with the present values.
func (t *TCB) FillInfo(now Time, i *Info) {
	st := &t.stats
	*i = Info{
		State: t.state, Retransmits: t.retries, Probes: t.probes, Backoff: t.backoff,
		OptTimestamps: t.has(flagTS), OptSACK: t.has(flagSACK), OptWindowScale: t.has(flagWScale),
		OptECN: t.flags&(flagECN|flagAccECN) != 0, OptAccECN: t.has(flagAccECN),
		SndWScale: t.sndWScale, RcvWScale: t.rcvWScale,
		RTO: t.currentRTO(), ATO: t.cfg.DelayedACK,
		SndMSS: t.mss, RcvMSS: t.rcvMSS, AdvMSS: t.advMSS, PMTU: t.mtuPayload,
		RTT: t.rto.SRTT, RTTVar: t.rto.RTTVar, MinRTT: t.minRTT.Get(), RcvRTT: t.tune.rtt,
		RcvSpace: uint32(t.tune.space), RcvWnd: uint32(t.rcvWnd()), SndWnd: t.sndWnd, RcvSsthresh: uint32(t.space()),
		Reordering: 3, TotalRetrans: st.totalRetrans, SndSsthresh: infiniteSsthresh,
		MaxPacingRate: t.MaxPacingRate, DeliveryRate: st.rate, DeliveryRateAppLimited: t.has(flagRateAppLimited),
		BytesAcked: st.bytesAcked, BytesReceived: st.bytesReceived, BytesSent: st.bytesSent, BytesRetrans: st.bytesRetrans,
		SegsOut: st.segsOut, SegsIn: st.segsIn, DataSegsOut: st.dataOut, DataSegsIn: st.dataIn,
		NotsentBytes: uint32(t.unsent()), Delivered: st.delivered, DeliveredCE: t.marksTold(), DSACKDups: st.dsackDups, RcvOOOPack: st.outOfOrder,
	}
	i.LastDataSent, i.LastDataRecv, i.LastAckRecv = since(now, t.lastSend), since(now, cmp.Or(t.lastText, t.tune.since)), since(now, t.lastAck)
	if f := t.FastOpen; f != nil {
		i.OptSynData, i.OptFastOpenChild = f.Taken > 0 && f.Taken == f.SynText, f.Accept && t.has(flagPassive)
	}
	switch {
	case t.sender != nil:
		t.senderInfo(now, i)
	case t.mss != 0:
		i.SndCwndBytes = t.startWindow()
		i.SndCwnd = uint32(i.SndCwndBytes / uint64(t.mss))
	}
}

// senderInfo fills in what a connection has that has sent something.
func (t *TCB) senderInfo(now Time, i *Info) {
	i.RwndLimited, i.SndbufLimited = t.limits.at(now, limitPeer), t.limits.at(now, limitBuffer)
	i.BusyTime = t.limits.at(now, limitPath) + i.RwndLimited + i.SndbufLimited
	i.CAState, i.ReordSeen, i.PacingRate = uint8(t.rec.state), t.rack.Reorderings, t.pacer.Rate()
	i.Unacked, i.Sacked, i.Lost, i.Retrans = t.rtx.Counts()
	i.SndCwndBytes = min(t.cwnd(), congestion.MaxWindow)
	i.SndCwnd = uint32(min(i.SndCwndBytes/uint64(t.mss), infiniteSsthresh))
	if t.ctl.Ssthresh < congestion.MaxWindow {
		i.SndSsthresh = uint32(min(t.ctl.Ssthresh/uint64(t.mss), infiniteSsthresh))
	}
	var snap congestion.Snapshot
	t.cc.Snapshot(&snap)
	i.Congestion = snap.Algorithm
}

func since(now, then Time) time.Duration {
	if then == 0 {
		return 0
	}
	return now - then
}
