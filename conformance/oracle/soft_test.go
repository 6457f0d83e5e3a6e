package oracle

import (
	"fmt"
	"strings"
	"testing"
)

// lines joins lines of a trace that are made by a function.
func lines(n int, f func(i int) string) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(f(i) + "\n")
	}
	return b.String()
}

// burst is n full segments of A from an offset on, at one time.
func burst(at string, from, n int) string {
	return lines(n, func(i int) string { return fmt.Sprintf("%s > . %d+1000 ack 1", at, from+1000*i) })
}

// acks is an acknowledgment of B for every second of n segments.
func acks(at string, from, n int) string {
	return lines(n/2, func(i int) string { return fmt.Sprintf("%s < . 1 ack %d", at, from+2000*(i+1)) })
}

// slowStart brings the flight of A to 40 segments: up to octet 40001 all is
// acknowledged, and 40 more are sent.
var slowStart = handshake + burst("0.03", 1, 10) + acks("0.06", 1, 10) + burst("0.061", 10001, 20) + acks("0.09", 10001, 20) + burst("0.091", 30001, 40)

// recovered is slowStart with its first segment of the last 40 lost, sent again
// and acknowledged.
var recovered = slowStart + lines(4, func(int) string { return "0.12 < . 1 ack 30001" }) + "0.121 > . 30001+1000 ack 1\n 0.151 < . 1 ack 70001\n"

// timedOut is slowStart with all of the last 40 lost and a time-out.
var timedOut = handshake + burst("0.03", 1, 10) + acks("0.06", 1, 10) + burst("0.061", 10001, 20) + "0.4 > . 10001+1000 ack 1\n"

// softCases has, for each rule of the soft tier, a trace that breaks it and one
// that does nearly so.
var softCases = []struct {
	rule  ruleID
	cases []ruleCase
}{
	{softRightEdge, []ruleCase{
		{"back", handshake + `
			0.03 > .  1+100 ack 1
			0.04 < .  1 ack 101 win 65434`, []string{"right-edge@5"}, false},
		{"stays", handshake + `
			0.03 > .  1+100 ack 1
			0.04 < .  1 ack 101 win 65435`, nil, false},
		{"back by less than its unit", modern + `
			0.03 > .  1+101 ack 1 ts 102:200 win 16383
			0.04 < .  1 ack 102 ts 201:102 win 16383
			0.05 > .  102+101 ack 1 ts 103:201 win 16383
			0.06 < .  1 ack 203 ts 202:103 win 16358`, nil, false},
	}},
	{softInitialWindow, []ruleCase{
		{"all at once", handshake + burst("0.03", 1, 15) + acks("0.06", 1, 14) + "0.06 < . 1 ack 15001", []string{"initial-window@14"}, false},
		{"ten segments", handshake + burst("0.03", 1, 10) + acks("0.06", 1, 10), nil, false},
	}},
	{softSlowStart, []ruleCase{
		{"more than was acknowledged", handshake + burst("0.03", 1, 10) + acks("0.06", 1, 10) + burst("0.061", 10001, 30) + acks("0.09", 10001, 30), []string{"slow-start@42"}, false},
		{"twice as much", slowStart + acks("0.12", 30001, 40), nil, false},
	}},
	{softRTOFlight, []ruleCase{
		{"two segments", timedOut + "0.4 > . 11001+1000 ack 1\n 0.43 < . 1 ack 12001", []string{"rto-flight@40"}, false},
		{"one", timedOut + "0.43 < . 1 ack 11001\n" + "0.43 > . 11001+1000 ack 1\n 0.43 > . 12001+1000 ack 1\n 0.46 < . 1 ack 30001", nil, false},
	}},
	{softRTORestart, []ruleCase{
		{"all at once", timedOut + "0.43 < . 1 ack 11001\n" + burst("0.43", 11001, 10) + "0.46 < . 1 ack 30001", []string{"rto-slow-start@46"}, false},
		{"two for one", timedOut + "0.43 < . 1 ack 11001\n" + burst("0.43", 11001, 2) + "0.46 < . 1 ack 13001\n" + burst("0.46", 13001, 4) + "0.49 < . 1 ack 30001", nil, false},
	}},
	{softBackoff, []ruleCase{
		{"the same time", handshake + "0.03 > . 1+1000 ack 1\n 0.03 > . 1001+1000 ack 1\n 0.06 < . 1 ack 2001\n" +
			"1 > . 2001+1000 ack 1\n 1.3 > . 2001+1000 ack 1\n 1.6 > . 2001+1000 ack 1\n 1.9 > . 2001+1000 ack 1", []string{"backoff@10"}, true},
		{"doubled", handshake + "0.03 > . 1+1000 ack 1\n 0.03 > . 1001+1000 ack 1\n 0.06 < . 1 ack 2001\n" +
			"1 > . 2001+1000 ack 1\n 1.3 > . 2001+1000 ack 1\n 1.9 > . 2001+1000 ack 1\n 3.1 > . 2001+1000 ack 1", nil, true},
		{"of a SYN", "0 > S 0 mss 1000\n 1 > S 0 mss 1000\n 2 > S 0 mss 1000\n 3 > S 0 mss 1000", []string{"backoff@3"}, false},
		{"of a SYN, doubled", "0 > S 0 mss 1000\n 1 > S 0 mss 1000\n 3 > S 0 mss 1000\n 7 > S 0 mss 1000", nil, false},
	}},
	{softInitialRTO, []ruleCase{
		{"too low", "0 > S 0 mss 1000\n 0.2 > S 0 mss 1000", []string{"initial-rto@2"}, false},
		{"a second", "0 > S 0 mss 1000\n 1 > S 0 mss 1000", nil, false},
		{"a SYN-ACK is sent again for a SYN", "0 > S 0 mss 1000\n 0.01 < S. 0 ack 1 mss 1000\n 0.2 > S 0 mss 1000\n 0.21 < S. 0 ack 1 mss 1000", nil, false},
	}},
	{softTooEarly, []ruleCase{
		{"within a round trip", handshake + "0.03 > . 1+1000 ack 1\n 0.13 < . 1 ack 1001\n 0.2 > . 1001+1000 ack 1\n 0.205 > . 1001+1000 ack 1\n 0.3 < . 1 ack 2001", []string{"early-retransmit@7"}, false},
		{"after more", handshake + "0.03 > . 1+1000 ack 1\n 0.13 < . 1 ack 1001\n 0.2 > . 1001+1000 ack 1\n 0.41 > . 1001+1000 ack 1\n 0.5 < . 1 ack 2001", nil, false},
	}},
	{softDelayedAck, []ruleCase{
		{"after 0.7 s", handshake + "0.03 > . 1+10 ack 1\n 0.73 < . 1 ack 11", []string{"delayed-ack@5"}, false},
		{"after 0.4 s", handshake + "0.03 > . 1+10 ack 1\n 0.43 < . 1 ack 11", nil, false},
	}},
	{softStretchAck, []ruleCase{
		{"each for five", handshake + burst("0.03", 1, 10) + "0.06 < . 1 ack 5001\n 0.06 < . 1 ack 10001\n" + burst("0.07", 10001, 10) + "0.1 < . 1 ack 15001\n 0.1 < . 1 ack 20001", []string{"stretch-ack@26"}, false},
		{"each for two", handshake + burst("0.03", 1, 10) + acks("0.06", 1, 10), nil, false},
	}},
	{softRetain, []ruleCase{
		{"dropped", handshake + "0.03 > . 1+1000 ack 1\n 0.03 > . 2001+1000 ack 1\n 0.03 < . 1 ack 1001\n 0.031 < . 1 ack 1001\n 0.4 > . 1001+1000 ack 1\n 0.41 < . 1 ack 2001\n" +
			"0.46 > . 2001+1000 ack 1\n 0.47 < . 1 ack 3001", []string{"retain@10", "skipped@5"}, false},
		{"kept", handshake + "0.03 > . 1+1000 ack 1\n 0.03 > . 2001+1000 ack 1\n 0.03 < . 1 ack 1001\n 0.031 < . 1 ack 1001\n 0.4 > . 1001+1000 ack 1\n 0.41 < . 1 ack 3001", []string{"skipped@5"}, false},
	}},
	{softDeflate, []ruleCase{
		{"more than before the loss", recovered + burst("0.152", 70001, 45) + acks("0.18", 70001, 44) + "0.18 < . 1 ack 115001", []string{"deflate@133"}, false},
		{"half of it", recovered + burst("0.152", 70001, 20) + acks("0.18", 70001, 20), nil, false},
	}},
	{softAvoidance, []ruleCase{
		{"doubling", recovered + growth(20, 20, 3), []string{"avoidance@226"}, false},
		{"one segment a round trip", recovered + growth(20, 1, 6), nil, false},
	}},
	{softKeepaliveIdle, []ruleCase{
		{"after a minute", handshake + "0.03 > . 1+10 ack 1\n 0.04 < . 1 ack 11\n 60 > . 10 ack 1\n 60.01 < . 1 ack 11", []string{"keepalive-idle@6"}, false},
		{"after two hours", handshake + "0.03 > . 1+10 ack 1\n 0.04 < . 1 ack 11\n 7201 > . 10 ack 1\n 7201.01 < . 1 ack 11", nil, false},
	}},
	{softKeepaliveLimit, []ruleCase{
		{"one probe", handshake + "0.03 > . 1+10 ack 1\n 0.04 < . 1 ack 11\n 7201 > . 10 ack 1\n 7276 > R. 11 ack 1", []string{"keepalive-limit@7"}, false},
		{"within a second each", handshake + "0.03 > . 1+10 ack 1\n 0.04 < . 1 ack 11\n 7201 > . 10 ack 1\n 7202 > . 10 ack 1\n 7203 > R. 11 ack 1", []string{"keepalive-limit@8"}, false},
		{"nine probes", handshake + "0.03 > . 1+10 ack 1\n 0.04 < . 1 ack 11\n" + lines(9, func(i int) string { return fmt.Sprintf("%d > . 10 ack 1", 7201+75*i) }) + "7876 > R. 11 ack 1", nil, false},
	}},
	{softProbe, []ruleCase{
		{"none, and then data at once", shut + "300 < . 1 ack 2001 win 60000\n 300.01 > . 2001+1000 ack 1\n 300.02 < . 1 ack 3001 win 59000", []string{"probe@8"}, false},
		{"it stops", shut + "0.4 > . 2001+1 ack 1\n 0.41 < . 1 ack 2001 win 0\n 300 < . 1 ack 2001 win 0", []string{"probe@9"}, false},
		{"one a minute", shut + "60 > . 2001+1 ack 1\n 60.01 < . 1 ack 2001 win 0\n 120 > . 2001+1 ack 1\n 120.01 < . 1 ack 2001 win 0", nil, false},
	}},
	{softFinPrompt, []ruleCase{
		{"waits", handshake + "0.03 > . 1+1000 ack 1\n 0.06 < . 1 ack 1001\n 0.0601 > F. 1001 ack 1\n 0.09 < . 1 ack 1002", []string{"fin-prompt@6"}, false},
		{"at once", handshake + "0.03 > . 1+1000 ack 1\n 0.03 > F. 1001 ack 1\n 0.06 < . 1 ack 1002", nil, false},
	}},
	{softNoReset, []ruleCase{
		{"the window closes", orphan + "0.4 > . 3001+1 ack 2\n 0.41 < . 2 ack 3001 win 0\n 15 > . 3001+1 ack 2\n 15.01 < . 2 ack 3001 win 0", []string{"reset-unread@13"}, false},
		{"it is reset", orphanStart + "0.04 > . 1+1000 ack 2\n 0.05 < R 2", nil, false},
	}},
	{softPendingData, []ruleCase{
		{"never read", handshake + "0.03 > . 1+1000 ack 1\n 0.04 < . 1 ack 1001 win 64535\n 0.05 < F. 1 ack 1001 win 64535\n 0.06 > F. 1001 ack 2\n 0.07 < . 2 ack 1002 win 64534", []string{"reset-pending@8"}, false},
		{"read", handshake + "0.03 > . 1+1000 ack 1\n 0.04 < . 1 ack 1001 win 64535\n 0.05 < F. 1 ack 1001 win 65535\n 0.06 > F. 1001 ack 2\n 0.07 < . 2 ack 1002 win 65535", nil, false},
		{"shut down for writing, not closed", handshake + "0.03 > . 1+1000 ack 1\n 0.04 < . 1 ack 1001 win 64535\n 0.05 < F. 1 ack 1001 win 64535\n 0.06 > . 1001+500 ack 2\n 0.07 < . 2 ack 1501 win 64035\n 0.08 > F. 1501 ack 2\n 0.09 < . 2 ack 1502 win 64034", nil, false},
	}},
	{softEchoWithoutAck, []ruleCase{
		{"in a SYN", `0.00 > S  0 mss 1000 ts 1:7`, []string{"echo-without-ack@1"}, false},
		{"zero", `0.00 > S  0 mss 1000 ts 1:0`, nil, false},
	}},
}

// growth is rounds of A's bulk after recovery, each of 30 ms and of more segments
// than the one before.
func growth(first, more, rounds int) string {
	var b strings.Builder
	at, from := 0.152, 70001
	for r := range rounds {
		n := (first + more*r) &^ 1
		b.WriteString(burst(fmt.Sprintf("%.3f", at), from, n))
		b.WriteString(acks(fmt.Sprintf("%.3f", at+0.03), from, n))
		at, from = at+0.031, from+1000*n
	}
	return b.String()
}

// shut is a connection whose B closes its window while A has sent all of it.
const shut = `
	0.00 > S  0 win 65535 mss 1000
	0.01 < S. 0 ack 1 win 2000 mss 1000
	0.02 > .  1 ack 1
	0.03 > .  1+1000 ack 1
	0.03 > .  1001+1000 ack 1
	0.04 < .  1 ack 2001 win 0
`

// orphanStart is a connection that B has closed; orphan goes on until the window of B
// is full.
const orphanStart = `
	0.00 > S  0 win 65535 mss 1000
	0.01 < S. 0 ack 1 win 3000 mss 1000
	0.02 > .  1 ack 1
	0.03 < F. 1 ack 1 win 3000
	0.03 > .  1 ack 2
`

const orphan = orphanStart + `
	0.04 > .  1+1000 ack 2
	0.04 > .  1001+1000 ack 2
	0.05 < .  2 ack 2001 win 1000
	0.06 > .  2001+1000 ack 2
	0.07 < .  2 ack 3001 win 0
`

// TestSoftRules checks that each rule is broken where it is, and nowhere else.
func TestSoftRules(t *testing.T) {
	seen := make(map[ruleID]bool)
	for _, r := range softCases {
		seen[r.rule] = true
		for _, c := range r.cases {
			t.Run(rules[r.rule].ID+"/"+c.name, func(t *testing.T) {
				wantFound(t, c.judge(t), c.want...)
			})
		}
	}
	for i := firstSoft; i < ruleCount; i++ {
		if !seen[i] {
			t.Errorf("rule %s has no test", rules[i].ID)
		}
	}
}
