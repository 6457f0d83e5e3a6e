package arp

import "gvisor.dev/gvisor/pkg/tcpip"

// Refusal says why a packet that names another link address for a neighbour did not change the entry.
type Refusal uint8

// The reasons to refuse.
const (
	RefusedPermanent   Refusal = iota // the entry is permanent
	RefusedRouter                     // the neighbour is a router, and nobody had asked (Options.RouterGuard)
	RefusedLocked                     // the entry changed less than Options.LockTime ago
	RefusedPolicy                     // Options.Accept forbids it
	RefusedUnsolicited                // a reply that is not an announcement, to a question that nobody asked

	numRefusals
)

var refusalNames = [numRefusals]string{"permanent", "router", "locked", "policy", "unsolicited"}

// String names the reason.
func (r Refusal) String() string {
	if r < numRefusals {
		return refusalNames[r]
	}
	return "unknown"
}

// Stats counts what happens on one interface. The stack's own ARP counters (tcpip.ARPStats) count beside it, as they do for stock's ARP.
type Stats struct {
	// PacketsReceived counts every packet, Malformed those dropped unread, by reason.
	PacketsReceived tcpip.StatCounter
	Malformed       [numMalformed]tcpip.StatCounter
	// Disabled counts packets that came while the protocol was disabled, OtherHost those that a promiscuous interface overheard, which were sent to another
	// host alone, Echoes our own packets that came back.
	Disabled, OtherHost, Echoes tcpip.StatCounter
	// RequestsReceived and RepliesReceived count well-formed packets.
	RequestsReceived, RepliesReceived tcpip.StatCounter
	// Ignored counts requests for addresses that we do not answer for.
	Ignored tcpip.StatCounter

	// Learned counts neighbours that became known, Changed those that moved to another link address, Refused the claims that changed nothing.
	Learned, Changed tcpip.StatCounter
	Refused          [numRefusals]tcpip.StatCounter
	// Unknown counts senders that we hold no entry for, and whose packets make none (Options.Accept).
	Unknown tcpip.StatCounter
	// NotLearned counts senders that were left out by Options.Learn.
	NotLearned tcpip.StatCounter
	// Verifications counts how often a link address was asked whether its neighbour is still there, Displaced how often it was silent.
	Verifications, Displaced tcpip.StatCounter

	// RequestsSent counts requests of resolution and reachability probes, RequestsLimited those that Options.Requests held back.
	RequestsSent, RequestsLimited tcpip.StatCounter
	// RepliesSent counts replies, ProxyReplies those among them for addresses that are not ours, RepliesLimited those that Options.Replies held back.
	RepliesSent, ProxyReplies, RepliesLimited tcpip.StatCounter
	// WriteErrors counts packets that the link refused.
	WriteErrors tcpip.StatCounter

	// ProbesSent and AnnouncementsSent count packets of RFC 5227, Conflicts the packets that claimed an address of ours, or one that we were probing.
	ProbesSent, AnnouncementsSent, Conflicts tcpip.StatCounter
	// AddressesLost counts addresses that were given up.
	AddressesLost tcpip.StatCounter
}

// IsNetworkEndpointStats implements stack.NetworkEndpointStats.
func (*Stats) IsNetworkEndpointStats() {}
