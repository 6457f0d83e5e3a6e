package script

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// String returns the script in its own notation: options, initial commands,
// events and final commands. Parse reads it back as the same script, less
// comments, tags and the layout.
func (s *Script) String() string {
	var b strings.Builder
	for _, o := range s.Options {
		b.WriteString("--" + o.Name)
		if o.Value != "" {
			b.WriteString("=" + optionValue(o.Value))
		}
		b.WriteByte('\n')
	}
	for _, c := range s.Init {
		b.WriteString(c.String() + "\n")
	}
	for _, e := range s.Events {
		b.WriteString(e.String() + "\n")
	}
	for _, c := range s.Cleanup {
		b.WriteString(c.String() + "\n")
	}
	return b.String()
}

// String returns the event as it stands in a script.
func (e *Event) String() string { return e.Time.String() + " " + e.Action.String() }

// String returns the time as it stands in a script, in seconds.
func (t Time) String() string {
	at, end := seconds(t.At), seconds(t.End)
	switch t.Kind {
	case Relative:
		return "+" + at
	case RelativeRange:
		return "+" + at + "~+" + end
	case AbsoluteRange:
		return at + "~" + end
	case RelativeSpan:
		return "+" + at + "..." + end
	case AbsoluteSpan:
		return at + "..." + end
	case AnyTime:
		return "*"
	}
	return at
}

// seconds writes d in seconds with as many decimals as it needs.
func seconds(d time.Duration) string {
	s := fmt.Sprintf("%d.%09d", d/time.Second, d%time.Second)
	return strings.TrimRight(strings.TrimRight(s, "0"), ".")
}

// String returns "> none".
func (*NoPacket) String() string { return "> none" }

// String returns the forms in braces, joined with "or".
func (a *Alternatives) String() string {
	forms := make([]string, 0, len(a.Packets)+1)
	for _, p := range a.Packets {
		forms = append(forms, "{ "+p.body()+" }")
	}
	if a.OrNone {
		forms = append(forms, "none")
	}
	return "> " + strings.Join(forms, " or ")
}

// String returns the command in backquotes.
func (c *Command) String() string { return "`" + c.Text + "`" }

// String returns the block with its braces.
func (c *Code) String() string { return "%{ " + c.Text + " }%" }

// String returns the call as it stands in a script, without the time.
func (s *Syscall) String() string {
	var b strings.Builder
	b.WriteString(s.Name + "(" + joinExprs(s.Args) + ") = ")
	if s.Result != nil {
		b.WriteString(s.Result.String())
	}
	if s.Errno != "" {
		b.WriteString(" " + s.Errno)
	}
	if s.Note != "" {
		b.WriteString(" (" + s.Note + ")")
	}
	return b.String()
}

// String returns the packet in packetdrill's notation, direction included,
// as in "> S. 0:0(0) ack 1 win 65535 <mss 1460,nop,nop,sackOK>". Parse reads
// it back as the same packet.
func (p *Packet) String() string { return p.Dir.String() + " " + p.body() }

// body is String without the direction.
func (p *Packet) body() string {
	if p.Reason != "" {
		return p.Text
	}
	var parts []string
	if ip := p.IP.String(); ip != "" {
		parts = append(parts, ip)
	}
	ports := ""
	if p.Ports.Set {
		ports = fmt.Sprintf("%d > %d", p.Ports.Value.Src, p.Ports.Value.Dst)
	}
	switch {
	case p.TCP != nil:
		if ports != "" {
			parts = append(parts, ports)
		}
		parts = append(parts, p.TCP.String())
	case p.UDP != nil:
		parts = append(parts, "udp")
		if ports != "" {
			parts = append(parts, ports)
		}
		parts = append(parts, fmt.Sprintf("(%d)", p.UDP.Len))
	case p.ICMP != nil:
		parts = append(parts, p.ICMP.String())
	}
	return strings.Join(parts, " ")
}

// String returns what the script says about the header, in brackets, or ""
// if it says nothing.
func (ip IP) String() string {
	var parts []string
	if name := ip.ECN.String(); name != "" {
		parts = append(parts, name)
	}
	if ip.TOS.Set {
		parts = append(parts, fmt.Sprintf("tos %#x", ip.TOS.Value))
	}
	if ip.TTL.Set {
		parts = append(parts, fmt.Sprintf("ttl %d", ip.TTL.Value))
	}
	if ip.FlowLabel.Set {
		parts = append(parts, fmt.Sprintf("flowlabel %#x", ip.FlowLabel.Value))
	}
	if ip.Src.IsValid() {
		parts = append(parts, "src "+ip.Src.String())
	}
	if ip.Dst.IsValid() {
		parts = append(parts, "dst "+ip.Dst.String())
	}
	if len(parts) == 0 {
		return ""
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// ecnNames are the names of the ECN field in scripts.
var ecnNames = map[ECN]string{NotECT: "noecn", ECT0: "ect0", ECT1: "ect1", CE: "ce", AnyECT: "ect01"}

// String returns the name of the value in scripts, "" for ECNUnset.
func (e ECN) String() string { return ecnNames[e] }

// flagLetters are the letters of the flags in the order of printing.
var flagLetters = []struct {
	flag   Flags
	letter byte
}{
	{SYN, 'S'}, {FIN, 'F'}, {RST, 'R'}, {PSH, 'P'}, {URG, 'U'},
	{ECE, 'E'}, {CWR, 'W'}, {AE, 'A'}, {ACK, '.'},
}

// String returns the flags as letters, as in "S.", or "-" if there are none.
func (f Flags) String() string {
	var b []byte
	for _, l := range flagLetters {
		if f&l.flag != 0 {
			b = append(b, l.letter)
		}
	}
	if len(b) == 0 {
		return "-"
	}
	return string(b)
}

// String returns the segment as it stands in a script.
func (t *TCP) String() string {
	var b strings.Builder
	flags := t.Flags.String()
	if t.ACE.Set {
		if flags == "-" {
			flags = ""
		}
		flags += strconv.Itoa(int(t.ACE.Value))
	}
	if t.FromEdge {
		fmt.Fprintf(&b, "%s %s:%s(%d)", flags, edge(t.Seq), edge(t.End()), t.Len)
	} else {
		fmt.Fprintf(&b, "%s %d:%d(%d)", flags, t.Seq, t.End(), t.Len)
	}
	if t.AnySeq {
		b.WriteByte('!')
	}
	if t.Ack.Set {
		fmt.Fprintf(&b, " ack %d", t.Ack.Value)
	}
	if t.Win.Set {
		fmt.Fprintf(&b, " win %v%d", t.WinOp, t.Win.Value)
	}
	if t.Urg.Set {
		fmt.Fprintf(&b, " urg %d", t.Urg.Value)
	}
	if t.DataOffset.Set {
		fmt.Fprintf(&b, " doff %d", t.DataOffset.Value)
	}
	if t.Reserved.Set {
		fmt.Fprintf(&b, " rsv %d", t.Reserved.Value)
	}
	if t.BadChecksum {
		b.WriteString(" badsum")
	}
	if t.AnyOptions || len(t.Options) > 0 {
		b.WriteString(" " + t.OptionsString())
	}
	if t.Payload != nil {
		b.WriteString(" " + quote(string(t.Payload)))
	}
	return b.String()
}

// OptionsString returns the list of options as it stands in a script, angle
// brackets included: <mss 1460,...> if there may be more.
func (t *TCP) OptionsString() string {
	s := OptionsString(t.Options)
	switch {
	case !t.AnyOptions:
		return s
	case len(t.Options) == 0:
		return "<...>"
	}
	return strings.TrimSuffix(s, ">") + ",...>"
}

// OptionsString returns a list of options as it stands in a script, angle
// brackets included.
func OptionsString(options []TCPOption) string {
	parts := make([]string, len(options))
	for i := range options {
		parts[i] = options[i].String()
	}
	return "<" + strings.Join(parts, ",") + ">"
}

// String returns the option as it stands in a script.
func (o TCPOption) String() string {
	switch o.Kind {
	case KindEOL:
		return "eol"
	case KindNOP:
		return "nop"
	case KindMSS:
		return "mss " + orOpen(o.Any, uint64(o.MSS))
	case KindWScale:
		return "wscale " + orOpen(o.Any, uint64(o.Shift))
	case KindSACKOK:
		return "sackOK"
	case KindSACK:
		s := "sack"
		if o.Any {
			return s + " *"
		}
		for _, b := range o.Blocks {
			s += fmt.Sprintf(" %d:%d", b.Left, b.Right)
		}
		return s
	case KindTimestamp:
		return "TS val " + orOpen(o.Any, uint64(o.TSVal)) + " ecr " + orOpen(o.AnyEcr, uint64(o.TSEcr))
	case KindMD5:
		return withHex("md5", o.Data)
	case KindFastOpen:
		return withHex("FO", o.Data)
	case KindExperiment:
		return withHex("FOEXP", o.Data)
	case KindAccECN0, KindAccECN1:
		s := "ECN"
		for i, c := range o.Counters {
			s += fmt.Sprintf(" %s %d", accECNNames(o.Kind)[i], c)
		}
		return s
	}
	return "raw 0x" + hex.EncodeToString(o.Data)
}

// orOpen returns v, or "*" if it is left open.
func orOpen(open bool, v uint64) string {
	if open {
		return "*"
	}
	return strconv.FormatUint(v, 10)
}

// comparisons are the signs of comparison.
var comparisons = [...]string{Equal: "", NotEqual: "!=", Less: "<", LessOrEqual: "<=", Greater: ">", GreaterOrEqual: ">="}

// String returns the sign and a space, or "" for Equal.
func (c Comparison) String() string {
	if c == Equal || int(c) >= len(comparisons) {
		return ""
	}
	return comparisons[c] + " "
}

// accECNNames are the names of the counters of the two AccECN options, in
// the order of the wire (RFC 9768 section 3.2.3).
func accECNNames(kind OptionKind) [3]string {
	if kind == KindAccECN0 {
		return [3]string{"e0b", "ceb", "e1b"}
	}
	return [3]string{"e1b", "ceb", "e0b"}
}

func withHex(name string, data []byte) string {
	if len(data) == 0 {
		return name
	}
	return name + " " + hex.EncodeToString(data)
}

// String returns the message as it stands in a script.
func (m *ICMP) String() string {
	s := "icmp " + m.Type
	if m.Code != "" {
		s += " " + m.Code
	}
	if m.MTU.Set {
		s += fmt.Sprintf(" mtu %d", m.MTU.Value)
	}
	if m.ID.Set {
		s += fmt.Sprintf(" id %d", m.ID.Value)
	}
	if m.Quote.Set {
		s += " " + m.Quote.Value.String()
	}
	return s
}

// String returns the quoted packet in brackets.
func (q Quote) String() string {
	cut := ""
	if q.Cut.Set {
		cut = fmt.Sprintf(" cut %d", q.Cut.Value)
	}
	switch q.Kind {
	case QuoteUDP:
		return fmt.Sprintf("[udp (%d)%s]", q.Len, cut)
	case QuoteRaw:
		return fmt.Sprintf("[raw (%d)%s]", q.Len, cut)
	}
	return fmt.Sprintf("[%d:%d(%d)%s]", q.Seq, q.Seq+uint32(q.Len), q.Len, cut)
}

// String returns the number in its base.
func (e *Int) String() string {
	if e.Hex {
		return fmt.Sprintf("%#x", uint64(e.Value))
	}
	return strconv.FormatInt(e.Value, 10)
}

// String returns the name.
func (e *Name) String() string { return e.Name }

// String returns the string in quotes.
func (e *Str) String() string {
	if e.Prefix {
		return quote(e.Value) + "..."
	}
	return quote(e.Value)
}

// String returns "...".
func (*Ellipsis) String() string { return "..." }

// String returns the elements in brackets.
func (e *List) String() string { return "[" + joinExprs(e.Elems) + "]" }

// String returns the fields in braces.
func (e *Struct) String() string {
	parts := make([]string, len(e.Fields))
	for i, f := range e.Fields {
		if f.Name != "" {
			parts[i] = f.Name
			if f.Arg != nil {
				parts[i] += "(" + f.Arg.String() + ")"
			}
			parts[i] += "="
		}
		parts[i] += f.Value.String()
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// String returns the conversion with its arguments.
func (e *Call) String() string { return e.Name + "(" + joinExprs(e.Args) + ")" }

// String returns both sides with a bar between them.
func (e *Or) String() string { return e.X.String() + "|" + e.Y.String() }

// String returns the text.
func (e *Raw) String() string { return e.Text }

func joinExprs(exprs []Expr) string {
	parts := make([]string, len(exprs))
	for i, e := range exprs {
		parts[i] = e.String()
	}
	return strings.Join(parts, ", ")
}

// quote writes s as a string of the language: octets that are not printable
// ASCII are written in hexadecimal.
func quote(s string) string {
	b := []byte{'"'}
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c > '~':
			b = fmt.Appendf(b, `\x%02x`, c)
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// optionValue puts quotes around the value of an option that needs them.
func optionValue(v string) string {
	name, quoted, ok := strings.Cut(v, "=")
	if ok && wordLen(name) == len(name) && quoted != "" && (quoted[0] == '"' || quoted[0] == '`') &&
		closing(quoted, quoted[0]) == len(quoted)-1 {
		return v
	}
	if strings.ContainsAny(v, " \t\r\n\"`") {
		return `"` + v + `"`
	}
	return v
}

// edge prints a sequence number that counts from the edge of the window.
func edge(offset uint32) string {
	if offset == 0 {
		return "edge"
	}
	return fmt.Sprintf("edge%+d", int32(offset))
}
