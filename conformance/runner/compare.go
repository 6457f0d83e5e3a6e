package runner

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/script"
)

// compare says how a candidate differs from want, or returns "".
func (r *run) compare(want *script.Packet, cand *candidate) string {
	got := cand.got
	want = r.opt.Ignore.expected(want, got)
	if d := r.compareIP(want.IP, got.IP); d != "" {
		return d
	}
	switch {
	case want.TCP != nil:
		if got.TCP == nil {
			return "the packet is no TCP segment"
		}
		return r.compareTCP(want.TCP, cand)
	case want.UDP != nil:
		if got.UDP == nil {
			return "the packet is no UDP datagram"
		}
		return differ("length", want.UDP.Len, got.UDP.Len)
	default:
		if got.ICMP == nil {
			return "the packet is no ICMP message"
		}
		return r.compareICMP(want.ICMP, got.ICMP)
	}
}

// differ describes a difference between two values, or returns "".
func differ[T comparable](what string, want, got T) string {
	if want == got {
		return ""
	}
	return fmt.Sprintf("%s is %v, expected %v", what, got, want)
}

// firstOf returns the first difference that is not "".
func firstOf(differences ...string) string {
	for _, d := range differences {
		if d != "" {
			return d
		}
	}
	return ""
}

// compareIP compares what the script says about the IP header.
func (r *run) compareIP(want, got script.IP) string {
	if want.TOS.Set && want.TOS != got.TOS {
		return fmt.Sprintf("TOS is %#x, expected %#x", got.TOS.Value, want.TOS.Value)
	}
	if want.TTL.Set && want.TTL != got.TTL {
		return differ("TTL", want.TTL.Value, got.TTL.Value)
	}
	if r.v6 && want.FlowLabel.Set && want.FlowLabel != got.FlowLabel {
		return fmt.Sprintf("flow label is %#x, expected %#x", got.FlowLabel.Value, want.FlowLabel.Value)
	}
	switch want.ECN {
	case script.ECNUnset:
	case script.AnyECT:
		if got.ECN != script.ECT0 && got.ECN != script.ECT1 {
			return fmt.Sprintf("ECN is %v, expected %v", got.ECN, want.ECN)
		}
	default:
		return differ("ECN", want.ECN, got.ECN)
	}
	return ""
}

// compareTCP compares segments. PSH says nothing about segments that were
// joined: where it stands in them depends on how they were cut.
func (r *run) compareTCP(want *script.TCP, cand *candidate) string {
	got := cand.got.TCP
	ignored := script.Flags(0)
	if !r.strict || cand.taken > 1 {
		ignored = script.PSH
	}
	wantLen := want.Len
	if cand.short {
		wantLen = min(wantLen, got.Len)
	}
	wantSeq := want.Seq
	if want.AnySeq {
		wantSeq = got.Seq
	}
	d := firstOf(
		differ("flags", want.Flags&^ignored, got.Flags&^ignored),
		differ("sequence number", wantSeq, got.Seq),
		differ("length", wantLen, got.Len),
		compareOpt("acknowledgment number", want.Ack, got.Ack),
		compareWindow(want, got),
		compareOpt("reserved bits", want.Reserved, got.Reserved),
		r.compareUrgent(want, got),
	)
	if want.ACE.Set {
		d = firstOf(d, differ("ACE", want.ACE.Value, got.ACE.Value))
	}
	if d != "" {
		return d
	}
	if want.AnyOptions && len(want.Options) == 0 {
		return ""
	}
	return r.compareOptions(want, got)
}

// compareOpt compares values that may be missing.
func compareOpt[T comparable](what string, want, got script.Opt[T]) string {
	switch {
	case want == got:
		return ""
	case !want.Set:
		return fmt.Sprintf("%s is %v, expected none", what, got.Value)
	case !got.Set:
		return fmt.Sprintf("there is no %s, expected %v", what, want.Value)
	default:
		return differ(what, want.Value, got.Value)
	}
}

// compareWindow compares the window field if the script gives one.
func compareWindow(want, got *script.TCP) string {
	if !want.Win.Set {
		return ""
	}
	if want.WinOp.Holds(uint64(got.Win.Value), uint64(want.Win.Value)) {
		return ""
	}
	return fmt.Sprintf("window is %d, expected %v%d", got.Win.Value, want.WinOp, want.Win.Value)
}

// compareUrgent compares urgent pointers; without URG they have no meaning.
func (r *run) compareUrgent(want, got *script.TCP) string {
	if !r.strict && want.Flags&script.URG == 0 {
		return ""
	}
	return differ("urgent pointer", want.Urg.Value, got.Urg.Value)
}

// compareOptions compares lists of options, in order at level Strict, as sets
// without padding at level RFC.
func (r *run) compareOptions(want, got *script.TCP) string {
	w, g := want.Options, got.Options
	if !r.strict || want.AnyOptions {
		w, g = sortedOptions(w), sortedOptions(g)
	}
	if want.AnyOptions {
		g = slices.DeleteFunc(g, func(o script.TCPOption) bool {
			return !slices.ContainsFunc(w, func(x script.TCPOption) bool { return x.Kind == o.Kind })
		})
	}
	if !slices.EqualFunc(w, g, sameOption) {
		return fmt.Sprintf("options are %s, expected %s",
			script.OptionsString(got.Options), want.OptionsString())
	}
	return ""
}

// sortedOptions returns options without padding, in the order of their kinds.
func sortedOptions(options []script.TCPOption) []script.TCPOption {
	var out []script.TCPOption
	for _, o := range options {
		if o.Kind != script.KindNOP && o.Kind != script.KindEOL {
			out = append(out, o)
		}
	}
	slices.SortStableFunc(out, func(a, b script.TCPOption) int { return int(a.Kind) - int(b.Kind) })
	return out
}

// sameOption compares two options. The value of a timestamp is a matter of
// time, which is checked elsewhere; what it echoes is compared.
func sameOption(w, g script.TCPOption) bool {
	if w.Kind != g.Kind {
		return false
	}
	if w.Any && w.Kind != script.KindTimestamp {
		return true
	}
	return w.MSS == g.MSS && w.Shift == g.Shift && (w.AnyEcr || w.TSEcr == g.TSEcr) &&
		slices.Equal(w.Blocks, g.Blocks) && slices.Equal(w.Counters, g.Counters) && bytes.Equal(w.Data, g.Data)
}

// compareICMP compares messages by type, code and next-hop MTU.
func (r *run) compareICMP(want, got *script.ICMP) string {
	wantType, wantCode, err := want.Numbers(r.v6)
	if err != nil {
		return err.Error()
	}
	gotType, gotCode, err := got.Numbers(r.v6)
	if err != nil {
		return err.Error()
	}
	d := firstOf(differ("ICMP type", wantType, gotType), differ("ICMP code", wantCode, gotCode))
	if d == "" && want.MTU.Set {
		d = differ("MTU", want.MTU.Value, got.MTU.Value)
	}
	return d
}

// icmpToScript gives a message the names of the script language that need no
// table: type_N and code_N.
func icmpToScript(p *wire.Packet) *script.ICMP {
	return &script.ICMP{
		Type: fmt.Sprintf("type_%d", p.ICMP.Type),
		Code: fmt.Sprintf("code_%d", p.ICMP.Code),
		MTU:  script.Some(p.ICMP.Rest),
	}
}

// checkPayload says what is wrong with the data in a segment, or "".
func (c *conn) checkPayload(cand *candidate, want *script.TCP) string {
	t, data := cand.got.TCP, cand.payload
	if want != nil && want.Payload != nil && !bytes.HasPrefix(want.Payload, data) {
		return fmt.Sprintf("payload is %q, expected %q", clip(data), clip(want.Payload))
	}
	if c.file == nil || len(data) == 0 {
		return ""
	}
	offset := t.Seq - 1
	if t.Flags&script.SYN != 0 {
		offset = 0
	}
	if len(data) == 1 && t.Seq+1 == c.sent {
		return "" // A keep-alive may send a garbage octet (RFC 9293 MAY-6).
	}
	written := c.file.written
	if uint64(offset)+uint64(len(data)) > uint64(len(written)) {
		return fmt.Sprintf("octets up to %d were sent, but only %d were written", uint64(offset)+uint64(len(data)), len(written))
	}
	if expected := written[offset:][:len(data)]; !bytes.Equal(data, expected) {
		i := firstDifference(data, expected)
		return fmt.Sprintf("the data is wrong: octet %d of the stream is %#02x, %#02x was written", int(offset)+i, data[i], expected[i])
	}
	return ""
}

// firstDifference returns the first index at which a and b differ.
func firstDifference(a, b []byte) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// clip shortens data for a message.
func clip(b []byte) string {
	const most = 32
	if len(b) <= most {
		return string(b)
	}
	return string(b[:most]) + strings.Repeat(".", 3)
}
