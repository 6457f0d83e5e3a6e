package oracle

import "slices"

// Tier says how much a finding weighs.
type Tier string

const (
	// Hard findings break a rule that leaves no room: the packets prove it.
	Hard Tier = "hard"
	// Soft findings are inferences about what cannot be seen, such as timers
	// and windows, or about advice. They have a confidence.
	Soft Tier = "soft"
)

// Rule is one thing that is judged.
type Rule struct {
	// ID names the rule in reports: lower case, with hyphens.
	ID string
	// Tier is that of its findings.
	Tier Tier
	// Section is where the rule comes from, as in "RFC 9293 3.8.6".
	Section string
	// Text says what the rule demands, in one line.
	Text string
	// Complete rules are judged only if the capture is known, or seems, to
	// have missed no packet of a connection; see Options.Complete.
	Complete bool
	// Near rules are judged only where the capture was made next to the
	// sender; see Options.Near.
	Near bool
}

// ruleID is the index of a rule in rules.
type ruleID int

const (
	ruleChecksum ruleID = iota
	ruleIPChecksum
	ruleOptionFormat
	ruleReserved
	ruleAckFlag
	ruleSynOptions
	ruleNotOffered
	ruleWindow
	ruleSameBytes
	ruleAckUnsent
	ruleAckBack
	ruleSackUnsent
	ruleSackEdges
	ruleSackPermitted
	ruleRST
	ruleTSMonotonic
	ruleTSEcho
	ruleTSMissing
	ruleFIN
	ruleState
	ruleSkipped
	ruleMSS

	softRightEdge
	softInitialWindow
	softSlowStart
	softRTOFlight
	softRTORestart
	softBackoff
	softInitialRTO
	softTooEarly
	softDelayedAck
	softStretchAck
	softRetain
	softDeflate
	softAvoidance
	softKeepaliveIdle
	softKeepaliveLimit
	softProbe
	softFinPrompt
	softNoReset
	softPendingData
	softEchoWithoutAck

	ruleCount

	// firstSoft is the first rule of the soft tier.
	firstSoft = softRightEdge
)

// rules has every rule by its ruleID.
var rules = [ruleCount]Rule{
	ruleChecksum:      {ID: "checksum", Section: "RFC 9293 3.1 MUST-2", Text: "the checksum of a segment is right"},
	ruleIPChecksum:    {ID: "ip-checksum", Section: "RFC 791 3.1", Text: "the checksum of an IPv4 header is right"},
	ruleOptionFormat:  {ID: "option-format", Section: "RFC 9293 3.1 MUST-68", Text: "options have the lengths of their kinds and end within the header"},
	ruleReserved:      {ID: "reserved", Section: "RFC 9293 3.1", Text: "reserved bits are zero"},
	ruleAckFlag:       {ID: "ack-flag", Section: "RFC 9293 3.1", Text: "every segment but a first SYN and a RST has the ACK flag"},
	ruleSynOptions:    {ID: "syn-options", Section: "RFC 9293 3.2 MUST-65, RFC 2018 2, RFC 7323 2.2", Text: "MSS, window scale and SACK-permitted are in segments with SYN only"},
	ruleNotOffered:    {ID: "not-offered", Section: "RFC 7323 2.2, 3.2", Text: "window scale and timestamps are in the answer to a SYN only if the SYN had them"},
	ruleWindow:        {ID: "window", Section: "RFC 9293 3.4, 3.8.6.1", Text: "no data lies beyond the right edge that the receiver has advertised, but for a probe of one octet", Complete: true},
	ruleSameBytes:     {ID: "same-bytes", Section: "RFC 9293 3.8.1", Text: "an octet has the same value each time it is sent"},
	ruleAckUnsent:     {ID: "ack-unsent", Section: "RFC 9293 3.4", Text: "what is acknowledged was sent", Complete: true},
	ruleAckBack:       {ID: "ack-back", Section: "RFC 9293 3.4", Text: "the acknowledgment number does not go back", Near: true},
	ruleSackUnsent:    {ID: "sack-unsent", Section: "RFC 2018 3", Text: "a SACK block covers only octets that were sent", Complete: true},
	ruleSackEdges:     {ID: "sack-edges", Section: "RFC 2018 3, RFC 2883 4", Text: "the left edge of a SACK block lies before the right edge, and above the acknowledgment number unless it reports a duplicate"},
	ruleSackPermitted: {ID: "sack-permitted", Section: "RFC 2018 2", Text: "SACK blocks are sent only to a peer that permitted them"},
	ruleRST:           {ID: "rst", Section: "RFC 9293 3.5.2", Text: "a RST has the numbers of what it answers, or those of its connection"},
	ruleTSMonotonic:   {ID: "ts-monotonic", Section: "RFC 7323 4.1", Text: "timestamp values do not go back", Near: true},
	ruleTSEcho:        {ID: "ts-echo", Section: "RFC 7323 3.2", Text: "a timestamp echo is of a timestamp that the peer sent", Complete: true},
	ruleTSMissing:     {ID: "ts-missing", Section: "RFC 7323 3.2", Text: "timestamps, once negotiated, are in every segment that is no RST, and in none otherwise"},
	ruleFIN:           {ID: "fin", Section: "RFC 9293 3.6", Text: "a stream ends at one place, and no data lies behind its FIN"},
	ruleState:         {ID: "state", Section: "RFC 9293 3.3.2, 3.10", Text: "there is a state in which a TCP sends the segment"},
	ruleSkipped:       {ID: "skipped", Section: "RFC 9293 3.4", Text: "new data begins where the data before it ended", Complete: true, Near: true},
	ruleMSS:           {ID: "mss", Section: "RFC 9293 3.7.1 MUST-16", Text: "data and options of a segment fit into the MSS that the peer announced"},

	softRightEdge:      {ID: "right-edge", Section: "RFC 9293 3.8.6 SHLD-14", Text: "the right edge of the advertised window does not move back"},
	softInitialWindow:  {ID: "initial-window", Section: "RFC 6928 2", Text: "before the first acknowledgment no more than the initial window is sent"},
	softSlowStart:      {ID: "slow-start", Section: "RFC 5681 3.1", Text: "the flight grows by no more than what is acknowledged"},
	softRTOFlight:      {ID: "rto-flight", Section: "RFC 5681 3.1", Text: "after a time-out one segment is sent until the next acknowledgment"},
	softRTORestart:     {ID: "rto-slow-start", Section: "RFC 5681 3.1", Text: "after a time-out the window grows from one segment"},
	softBackoff:        {ID: "backoff", Section: "RFC 6298 5.5", Text: "the time between retransmissions of one segment doubles"},
	softInitialRTO:     {ID: "initial-rto", Section: "RFC 6298 2.1", Text: "the first retransmission of a SYN waits for a second"},
	softTooEarly:       {ID: "early-retransmit", Section: "RFC 6298 2", Text: "without a sign of loss nothing is retransmitted within a round-trip time", Near: true},
	softDelayedAck:     {ID: "delayed-ack", Section: "RFC 9293 3.8.6.3 MUST-40", Text: "data is acknowledged within half a second", Near: true},
	softStretchAck:     {ID: "stretch-ack", Section: "RFC 9293 3.8.6.3 SHLD-19", Text: "every second full-sized segment is acknowledged", Near: true},
	softRetain:         {ID: "retain", Section: "RFC 9293 3.10.7.4 SHLD-31", Text: "segments that arrive out of order are kept", Near: true},
	softDeflate:        {ID: "deflate", Section: "RFC 5681 3.2", Text: "after fast recovery the flight is smaller than before the loss"},
	softAvoidance:      {ID: "avoidance", Section: "RFC 5681 3.1, RFC 9438 4", Text: "after a loss the window grows no faster than that of Reno or CUBIC"},
	softKeepaliveIdle:  {ID: "keepalive-idle", Section: "RFC 9293 3.8.4 MUST-28", Text: "a connection is idle for two hours before a keep-alive probe, unless the application asks for less"},
	softKeepaliveLimit: {ID: "keepalive-limit", Section: "RFC 9293 3.8.4 MUST-29", Text: "one keep-alive probe without an answer does not end a connection"},
	softProbe:          {ID: "probe", Section: "RFC 9293 3.8.6.1 MUST-36", Text: "a closed window is probed as long as there is data to send"},
	softFinPrompt:      {ID: "fin-prompt", Section: "RFC 2525 2.15", Text: "a FIN does not wait for the data before it to be acknowledged"},
	softNoReset:        {ID: "reset-unread", Section: "RFC 9293 3.6.1 SHLD-3", Text: "data that arrives after a close is answered with a RST"},
	softPendingData:    {ID: "reset-pending", Section: "RFC 9293 3.6.1 SHLD-3", Text: "a close with data that was not read sends a RST"},
	softEchoWithoutAck: {ID: "echo-without-ack", Section: "RFC 7323 3.2", Text: "a timestamp echo is zero without ACK"},
}

func init() {
	for i := range rules {
		rules[i].Tier = Hard
		if ruleID(i) >= firstSoft {
			rules[i].Tier = Soft
		}
	}
}

// Rules returns a copy of all rules, those of the hard tier first.
func Rules() []Rule { return slices.Clone(rules[:]) }
