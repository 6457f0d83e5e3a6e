package oracle

import (
	"net/netip"
	"testing"
)

// ruleCase is a trace with the findings in it.
type ruleCase struct {
	name  string
	trace string
	want  []string
	// far says that the capture was made next to A, and that what A sends may
	// be lost on the way.
	far bool
}

// judge judges the trace of a case.
func (c *ruleCase) judge(t *testing.T) *Report {
	opt := onPath
	if c.far {
		opt.NearAll, opt.Near = false, []netip.Addr{endA.Addr()}
	}
	return judge(t, opt, c.trace)
}

// hardCases has, for each rule of the hard tier, a trace that breaks that rule
// alone and a near miss that is legal. What is wanted names rule and packet.
var hardCases = []struct {
	rule  ruleID
	cases []ruleCase
}{
	{ruleChecksum, []ruleCase{
		{"wrong", handshake + `0.03 > P. 1+10 ack 1 badsum`, []string{"checksum@4"}, false},
		{"for a device to fill in", handshake + `0.03 > P. 1+10 ack 1 nosum`, []string{"checksum@4"}, false},
		{"right", handshake + "0.03 > P. 1+10 ack 1\n 0.04 < . 1 ack 11", nil, false},
		{"odd length", handshake + "0.03 > P. 1+11 ack 1\n 0.04 < . 1 ack 12", nil, false},
		{"damaged data is none", handshake + "0.03 > P. 1+10 ack 1 badsum\n 0.04 > P. 1+10 ack 1\n 0.05 < . 1 ack 11", []string{"checksum@4"}, false},
	}},
	{ruleIPChecksum, []ruleCase{
		{"wrong", handshake + `0.03 > . 1 ack 1 badip`, []string{"ip-checksum@4"}, false},
		{"right", handshake + `0.03 > . 1 ack 1 id 77`, nil, false},
	}},
	{ruleOptionFormat, []ruleCase{
		{"MSS of 3 octets", handshake + `0.03 > . 1 ack 1 opt 1e030101`, nil, false},
		{"length 0", handshake + `0.03 > . 1 ack 1 opt fd000101`, []string{"option-format@4"}, false},
		{"past the header", handshake + `0.03 > . 1 ack 1 opt fd090101`, []string{"option-format@4"}, false},
		{"timestamps of 4 octets", handshake + `0.03 > . 1 ack 1 opt 08040101`, []string{"option-format@4"}, false},
		{"a kind that nobody knows", handshake + `0.03 > . 1 ack 1 opt fd040101`, nil, false},
		{"what follows the end of the list", handshake + `0.03 > . 1 ack 1 opt 0100fdff`, nil, false},
	}},
	{ruleReserved, []ruleCase{
		{"set", handshake + `0.03 > . 1 ack 1 reserved`, []string{"reserved@4"}, false},
		{"ECE and CWR are none", handshake + `0.03 > .EW 1 ack 1`, nil, false},
	}},
	{ruleAckFlag, []ruleCase{
		{"data without", handshake + `0.03 > P 1+10`, []string{"ack-flag@4"}, false},
		{"nothing at all", handshake + `0.03 > - 1`, []string{"ack-flag@4"}, false},
		{"a RST needs none", handshake + `0.03 > R 1`, nil, false},
	}},
	{ruleSynOptions, []ruleCase{
		{"MSS", handshake + `0.03 > . 1 ack 1 mss 1000`, []string{"syn-options@4"}, false},
		{"window scale", handshake + `0.03 > . 1 ack 1 ws 2`, []string{"syn-options@4"}, false},
		{"SACK permitted", handshake + `0.03 > . 1 ack 1 sackok`, []string{"syn-options@4"}, false},
		{"in both SYNs", modern, nil, false},
	}},
	{ruleNotOffered, []ruleCase{
		{"window scale", `
			0.00 > S  0 mss 1000
			0.01 < S. 0 ack 1 mss 1000 ws 2`, []string{"not-offered@2"}, false},
		{"timestamps", `
			0.00 > S  0 mss 1000
			0.01 < S. 0 ack 1 mss 1000 ts 1:0`, []string{"not-offered@2"}, false},
		{"SACK may be", `
			0.00 > S  0 mss 1000
			0.01 < S. 0 ack 1 mss 1000 sackok`, nil, false},
		{"repeated where SYNs cross", `
			0.00 > S  0 mss 1000 ws 2 ts 1:0
			0.01 < S  0 mss 1000
			0.02 > S. 0 ack 1 mss 1000 ws 2 ts 2:0
			0.50 > S. 0 ack 1 mss 1000 ws 2 ts 3:0
			0.51 < .  1 ack 1`, nil, false},
		{"declined", `
			0.00 > S  0 mss 1000 ws 2 ts 1:0
			0.01 < S. 0 ack 1 mss 1000`, nil, false},
	}},
	{ruleWindow, []ruleCase{
		{"beyond the edge", `
			0.00 > S  0 win 65535 mss 1000
			0.01 < S. 0 ack 1 win 100 mss 1000
			0.02 > .  1 ack 1
			0.03 > .  1+101 ack 1`, []string{"window@4"}, false},
		{"up to the edge", `
			0.00 > S  0 win 65535 mss 1000
			0.01 < S. 0 ack 1 win 100 mss 1000
			0.02 > .  1 ack 1
			0.03 > .  1+100 ack 1
			0.04 < .  1 ack 101 win 100`, nil, false},
		{"a probe of one octet", `
			0.00 > S  0 win 65535 mss 1000
			0.01 < S. 0 ack 1 win 0 mss 1000
			0.02 > .  1 ack 1
			0.33 > .  1+1 ack 1
			0.34 < .  1 ack 1 win 0`, nil, false},
		{"a probe of two", `
			0.00 > S  0 win 65535 mss 1000
			0.01 < S. 0 ack 1 win 0 mss 1000
			0.02 > .  1 ack 1
			0.33 > .  1+2 ack 1`, []string{"window@4"}, false},
		{"the window of a SYN is not scaled", `
			0.00 > S  0 win 65535 mss 1000 ws 2
			0.01 < S. 0 ack 1 win 100 mss 1000 ws 2
			0.02 > .  1 ack 1
			0.03 > .  1+101 ack 1`, []string{"window@4"}, false},
		{"scaled", `
			0.00 > S  0 win 65535 mss 1000 ws 2
			0.01 < S. 0 ack 1 win 100 mss 1000 ws 2
			0.02 > .  1 ack 1
			0.03 < .  1 ack 1 win 100
			0.04 > .  1+400 ack 1
			0.05 < .  1 ack 401 win 100`, nil, false},
		{"old window that shrank", handshake + `
			0.03 > .  1+1000 ack 1
			0.04 < .  1 ack 1001 win 10
			0.05 > .  1001+1000 ack 1
			0.06 < .  1 ack 2001 win 10`, []string{"right-edge@5"}, false},
	}},
	{ruleSameBytes, []ruleCase{
		{"other octets", handshake + `
			0.03 > .  1+100 ack 1
			0.33 > .  1+100 ack 1 fill x
			0.34 < .  1 ack 101`, []string{"same-bytes@5"}, false},
		{"one of them, in a longer segment", handshake + `
			0.03 > .  1+100 ack 1
			0.33 > .  1+99 ack 1
			0.34 > .  100+50 ack 1 fill x
			0.35 < .  1 ack 150`, []string{"same-bytes@6"}, false},
		{"the same", handshake + `
			0.03 > .  1+100 ack 1
			0.33 > .  1+150 ack 1
			0.34 < .  1 ack 151`, nil, false},
		{"a keep-alive with garbage", handshake + `
			0.03 > .  1+100 ack 1
			0.04 < .  1 ack 101
			7300 > .  100+1 ack 1 fill x
			7300.01 < . 1 ack 101`, nil, false},
	}},
	{ruleAckUnsent, []ruleCase{
		{"text from before the SYN is not of the stream", handshake + "0.03 > P. 2794967296+100 ack 1\n 0.04 < . 1 ack 1\n 0.05 > P. 1+10 ack 1\n 0.06 < . 1 ack 11", nil, false},
		{"beyond what was sent", handshake + `
			0.03 > .  1+100 ack 1
			0.04 < .  1 ack 102`, []string{"ack-unsent@5"}, false},
		{"of a SYN", `
			0.00 > S  0 mss 1000
			0.01 < S. 0 ack 2 mss 1000`, []string{"ack-unsent@2"}, false},
		{"across a gap that the capture has", handshake + `
			0.03 > .  101+100 ack 1
			0.04 < .  1 ack 201`, []string{"ack-unsent@5", "skipped@4"}, false},
		{"all of it", handshake + `
			0.03 > .  1+100 ack 1
			0.04 < .  1 ack 101`, nil, false},
		{"its FIN", handshake + `
			0.03 > F. 1+100 ack 1
			0.04 < .  1 ack 102`, nil, false},
	}},
	{ruleAckBack, []ruleCase{
		{"back", `
			0.00 > S  0 win 65535 mss 1000
			0.01 < S. 0 ack 1 win 1000 mss 1000
			0.02 > .  1 ack 1
			0.03 > .  1+100 ack 1
			0.04 < .  1 ack 101 win 950
			0.05 < .  1 ack 51 win 1000`, []string{"ack-back@6"}, false},
		{"again", handshake + `
			0.03 > .  1+100 ack 1
			0.04 < .  1 ack 101
			0.05 < .  1 ack 101`, nil, false},
	}},
	{ruleSackUnsent, []ruleCase{
		{"never sent", modern + `
			0.03 > .  1+100 ack 1 ts 102:200 win 16383
			0.04 < .  1 ack 1 sack 101:201 ts 201:102 win 16383`, []string{"sack-unsent@5"}, false},
		{"sent", modern + `
			0.03 > .  1+100 ack 1 ts 102:200 win 16383
			0.03 > .  101+100 ack 1 ts 102:200 win 16383
			0.04 < .  1 ack 1 sack 101:201 ts 201:102 win 16383
			0.05 < .  1 ack 201 ts 202:102 win 16383`, nil, false},
	}},
	{ruleSackEdges, []ruleCase{
		{"empty", modern + `
			0.03 > .  1+100 ack 1 ts 102:200 win 16383
			0.04 < .  1 ack 1 sack 51:51 ts 201:102 win 16383
			0.05 < .  1 ack 101 ts 201:102 win 16383`, []string{"sack-edges@5"}, false},
		{"beside the acknowledgment number", modern + `
			0.03 > .  1+100 ack 1 ts 102:200 win 16383
			0.04 < .  1 ack 1 sack 1:101 ts 201:102 win 16383
			0.05 < .  1 ack 101 ts 201:102 win 16383`, []string{"sack-edges@5"}, false},
		{"a duplicate", modern + `
			0.03 > .  1+100 ack 1 ts 102:200 win 16383
			0.04 < .  1 ack 101 ts 201:102 win 16383
			0.35 > .  1+100 ack 1 ts 1102:201 win 16383
			0.36 < .  1 ack 101 sack 1:101 ts 1201:1102 win 16383`, nil, false},
	}},
	{ruleSackPermitted, []ruleCase{
		{"not permitted", handshake + `
			0.03 > .  1+100 ack 1
			0.03 > .  101+100 ack 1
			0.04 < .  1 ack 1 sack 101:201
			0.05 < .  1 ack 201`, []string{"sack-permitted@6"}, false},
		{"permitted by one side only", `
			0.00 > S  0 mss 1000 sackok
			0.01 < S. 0 ack 1 mss 1000
			0.02 > .  1 ack 1
			0.03 > .  1+100 ack 1
			0.03 > .  101+100 ack 1
			0.04 < .  1 ack 1 sack 101:201
			0.05 < .  1 ack 201`, nil, false},
	}},
	{ruleRST, []ruleCase{
		{"far away", handshake + `0.03 < R 90000`, []string{"rst@4"}, false},
		{"answers with the wrong number", `
			0.00 > S  0 mss 1000
			0.01 < R. 0 raw -5000000 ack 5`, []string{"rst@2"}, false},
		{"refuses", `
			0.00 > S  0 mss 1000
			0.01 < R. 0 raw -5000000 ack 1`, nil, false},
		{"of the connection", handshake + `0.03 < R. 1 ack 1`, nil, false},
		{"answers an ACK that is none of the connection", handshake + `
			0.03 > .  1 ack 70000
			0.04 < R  70000`, []string{"ack-unsent@4"}, false},
	}},
	{ruleTSMonotonic, []ruleCase{
		{"back", modern + `
			0.03 > .  1+100 ack 1 ts 102:200 win 16383
			0.04 > .  101+100 ack 1 ts 101:200 win 16383
			0.05 < .  1 ack 201 ts 201:102 win 16383`, []string{"ts-monotonic@5"}, false},
		{"stays", modern + `
			0.03 > .  1+100 ack 1 ts 102:200 win 16383
			0.04 > .  101+100 ack 1 ts 102:200 win 16383
			0.05 < .  1 ack 201 ts 201:102 win 16383`, nil, false},
		{"wraps around", `
			0.00 > S  0 mss 1000 ts 4294967295:0
			0.01 < S. 0 ack 1 mss 1000 ts 5:4294967295
			0.02 > .  1 ack 1 ts 1:5`, nil, false},
	}},
	{ruleTSEcho, []ruleCase{
		{"never sent", modern + `
			0.03 > .  1 ack 1 ts 102:201 win 16383`, []string{"ts-echo@4"}, false},
		{"an old one", modern + `
			0.03 < P. 1+10 ack 1 ts 210:101 win 16383
			0.04 > .  1 ack 11 ts 102:200 win 16383`, nil, false},
	}},
	{ruleTSMissing, []ruleCase{
		{"left out", modern + `
			0.03 > P. 1+10 ack 1 win 16383
			0.04 < .  1 ack 11 ts 201:101 win 16383`, []string{"ts-missing@4"}, false},
		{"not negotiated", handshake + `0.03 > . 1 ack 1 ts 1:0`, []string{"ts-missing@4"}, false},
		{"a RST may do without", modern + `0.03 > R. 1 ack 1`, nil, false},
	}},
	{ruleFIN, []ruleCase{
		{"moves", handshake + `
			0.03 > F. 1+100 ack 1
			0.33 > F. 1+90 ack 1
			0.34 < .  1 ack 102`, []string{"fin@5"}, false},
		{"data behind it", handshake + `
			0.03 > F. 1 ack 1
			0.04 > .  2+10 ack 1
			0.05 < .  1 ack 2`, []string{"fin@5"}, false},
		{"before the end of the data", handshake + `
			0.03 > .  1+100 ack 1
			0.04 > F. 51 ack 1
			0.05 < .  1 ack 101`, []string{"fin@5"}, false},
		{"again, with its data", handshake + `
			0.03 > .  1+100 ack 1
			0.04 > F. 101 ack 1
			0.34 > F. 1+100 ack 1
			0.35 < .  1 ack 102`, nil, false},
	}},
	{ruleState, []ruleCase{
		{"SYN with RST", `0.00 > SR 0`, []string{"state@1"}, false},
		{"data before the handshake", `
			0.00 > S  0 mss 1000
			0.01 > .  1+100 ack 1`, []string{"state@2"}, false},
		{"SYN-ACK in a connection", handshake + `
			0.03 < S. 7000 ack 1 mss 1000
			0.04 > .  1 ack 1`, []string{"state@4"}, false},
		{"simultaneous open", `
			0.00 > S  0 mss 1000
			0.00 < S  0 mss 1000
			0.01 > S. 0 ack 1 mss 1000
			0.01 < S. 0 ack 1 mss 1000`, nil, false},
		{"close in both orders", handshake + `
			0.03 > F. 1 ack 1
			0.03 < F. 1 ack 1
			0.04 > .  2 ack 2
			0.04 < .  2 ack 2`, nil, false},
	}},
	{ruleSkipped, []ruleCase{
		{"a hole", handshake + `
			0.03 > .  1+100 ack 1
			0.03 > .  201+100 ack 1
			0.04 < .  1 ack 101`, []string{"skipped@5"}, false},
		{"in order", handshake + `
			0.03 > .  1+100 ack 1
			0.03 > .  101+100 ack 1
			0.04 < .  1 ack 201`, nil, false},
	}},
	{ruleMSS, []ruleCase{
		{"too long", handshake + `
			0.03 > .  1+1001 ack 1
			0.04 < .  1 ack 1002`, []string{"mss@4"}, false},
		{"options do not count against the announced MSS (MUST-14, MUST-16)", modern + `
			0.03 > .  1+989 ack 1 ts 102:200 win 16383
			0.04 < .  1 ack 990 ts 201:102 win 16383`, []string{"mss@4"}, false},
		{"fits", handshake + `
			0.03 > .  1+1000 ack 1
			0.04 < .  1 ack 1001`, nil, false},
		{"fits with options", modern + `
			0.03 > .  1+988 ack 1 ts 102:200 win 16383
			0.04 < .  1 ack 989 ts 201:102 win 16383`, nil, false},
		{"536 without an option", `
			0.00 > S  0
			0.01 < S. 0 ack 1
			0.02 > .  1 ack 1
			0.03 > .  1+537 ack 1
			0.04 < .  1 ack 538`, []string{"mss@4"}, false},
	}},
}

// TestHardRules checks that each rule is broken where it is, and nowhere else.
func TestHardRules(t *testing.T) {
	seen := make(map[ruleID]bool)
	for _, r := range hardCases {
		seen[r.rule] = true
		broken, kept := false, false
		for _, c := range r.cases {
			t.Run(rules[r.rule].ID+"/"+c.name, func(t *testing.T) {
				wantFound(t, c.judge(t), c.want...)
			})
			for _, w := range c.want {
				broken = broken || len(w) > len(rules[r.rule].ID) && w[:len(rules[r.rule].ID)+1] == rules[r.rule].ID+"@"
			}
			kept = kept || len(c.want) == 0
		}
		if !broken || !kept {
			t.Errorf("%s: a trace that breaks it: %v, a near miss: %v", rules[r.rule].ID, broken, kept)
		}
	}
	for i := ruleID(0); i < firstSoft; i++ {
		if !seen[i] {
			t.Errorf("rule %s has no test", rules[i].ID)
		}
	}
}
