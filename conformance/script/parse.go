package script

import (
	"maps"
	"strings"
	"time"
)

// Error is a fault in a script.
type Error struct {
	Pos Position
	// Msg says what is wrong, in one line.
	Msg string
}

// Error returns file:line:column: message.
func (e *Error) Error() string { return e.Pos.String() + ": " + e.Msg }

// maxDepth is how deeply arguments and formulas may nest.
const maxDepth = 50

// Parse reads a script. The name is the file name that positions carry. An
// error is always an *Error.
func Parse(name string, src []byte) (*Script, error) {
	return ParseWith(name, src, nil)
}

// ParseWith is Parse with symbols defined beforehand, as the -D option of
// packetdrill does: defines maps a symbol to a number, a word, a "string" in
// double quotes or a command in backquotes. The script's own --define lines
// take precedence. ParseWith does not change defines.
func ParseWith(name string, src []byte, defines map[string]string) (*Script, error) {
	if len(src) > maxSource {
		return nil, &Error{Pos: Position{File: name, Line: 1, Column: 1}, Msg: "the script is larger than 16 MiB"}
	}
	p := &parser{lexer: newLexer(name, string(src), maps.Clone(defines))}
	p.resolveConditionals()
	s := p.script(name)
	s.Source = string(src)
	if p.err == nil {
		p.readComments(s)
	}
	if p.err != nil {
		return nil, p.err
	}
	return s, nil
}

// parser builds the syntax tree. Like its lexer it goes on after an error,
// on an input that has ended; the caller looks at err in the end.
type parser struct {
	*lexer
	depth int
	// reason is why the action under construction is not supported.
	reason string
	// ends are the lines on which the events end.
	ends []int
}

// expect takes the given punctuation or word, or fails.
func (p *parser) expect(s, where string) {
	if t := p.next(); !t.is(s) {
		p.fail(t.off, "expected %q %s, found %s", s, where, t.describe())
	}
}

// accept takes the given punctuation or word if it comes next.
func (p *parser) accept(s string) bool {
	if p.peek().is(s) {
		p.next()
		return true
	}
	return false
}

// unsupported keeps the first reason why the current action is not
// supported.
func (p *parser) unsupported(reason string) {
	if p.reason == "" {
		p.reason = reason
	}
}

func (p *parser) script(name string) *Script {
	s := &Script{Name: name}
	for p.peek().kind == tokOption {
		s.Options = append(s.Options, p.option())
	}
	for p.peek().kind == tokCommand {
		s.Init = append(s.Init, p.command())
	}
	for p.err == nil && p.peek().kind != tokEOF {
		t := p.peek()
		switch {
		case t.kind == tokOption:
			p.fail(t.off, "options stand at the top of the script, before commands and events")
		case t.kind == tokCommand:
			s.Cleanup = append(s.Cleanup, p.command())
		case len(s.Cleanup) > 0:
			p.fail(t.off, "events cannot follow the final command; a command among events needs a time")
		default:
			s.Events = append(s.Events, p.event())
		}
	}
	if p.err == nil && len(s.Events) == 0 {
		p.fail(len(p.src), "the script has no events")
	}
	return s
}

// option parses --name or --name=value. The value reaches as far as the next
// white space outside quotes.
func (p *parser) option() Setting {
	t := p.next()
	set := Setting{Pos: p.position(t.off), Name: t.text}
	if p.off = t.end; p.err != nil || !strings.HasPrefix(p.src[p.off:], "=") {
		return set
	}
	start := p.off + 1
	end := start
	for end < len(p.src) && !isSpace(p.src[end]) {
		if c := p.src[end]; c == '"' || c == '`' {
			n := closing(p.src[end:], c)
			if n < 0 {
				p.fail(end, "the value of --%s has no %c to end it", set.Name, c)
				return set
			}
			end += n
		}
		end++
	}
	if start == end {
		p.fail(start, "--%s has an equals sign but no value", set.Name)
		return set
	}
	set.Value = p.src[start:end]
	if set.Value[0] == '"' && closing(set.Value, '"') == len(set.Value)-1 {
		set.Value = set.Value[1 : len(set.Value)-1]
	}
	p.skipTo(end)
	if symbol, value, ok := strings.Cut(set.Value, "="); ok && set.Name == "define" {
		p.defines[symbol] = value
	}
	return set
}

// closing returns the index of the delimiter that ends the quoted text which
// s begins with, or -1.
func closing(s string, delim byte) int {
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case delim:
			return i
		}
	}
	return -1
}

func (p *parser) command() *Command {
	t := p.next()
	return &Command{Pos: p.position(t.off), Text: t.text}
}

func (p *parser) event() *Event {
	start := p.peek().off
	e := &Event{Pos: p.position(start)}
	e.Time = p.time()
	action := p.peek().off
	e.Action = p.action()
	if p.err != nil {
		return e
	}
	p.checkTime(e, start, action)
	p.ends = append(p.ends, p.line(p.last))
	e.Source = strings.Join(strings.Fields(p.src[start:p.last]), " ")
	return e
}

// checkTime fails if the kind of time does not suit the action.
func (p *parser) checkTime(e *Event, start, action int) {
	outbound, call, none := false, false, false
	switch a := e.Action.(type) {
	case *Packet:
		outbound = a.Dir == Outbound
	case *Alternatives:
		outbound = true
	case *Syscall:
		call = true
	case *NoPacket:
		none = true
	}
	switch t := e.Time; {
	case t.Kind == AnyTime && !outbound:
		p.fail(start, "the time * is for outbound packets only")
	case t.IsRange() && !outbound:
		p.fail(start, "a range of time is for outbound packets only")
	case t.IsSpan() && !call && !none:
		p.fail(start, `a time with "..." is for system calls and for "> none" only`)
	case none && !t.IsSpan():
		p.fail(action, `"> none" needs a span of time, as in "+0...1.5 > none"`)
	}
}

func (p *parser) time() Time {
	t := Time{Kind: Absolute}
	start := p.peek().off
	if p.accept("*") {
		t.Kind = AnyTime
		return t
	}
	if p.accept("+") {
		t.Kind = Relative
	}
	t.At = p.duration()
	switch {
	case p.accept("~"):
		if t.Kind == Relative {
			p.expect("+", "at the end of a range that begins with one")
			t.Kind = RelativeRange
		} else {
			t.Kind = AbsoluteRange
		}
		t.End = p.duration()
	case p.peek().kind == tokEllipsis:
		p.next()
		if t.Kind == Relative {
			t.Kind = RelativeSpan
		} else {
			t.Kind = AbsoluteSpan
		}
		t.End = p.duration()
	default:
		return t
	}
	if t.End < t.At {
		p.fail(start, "the time ends before it begins")
	}
	return t
}

// maxSeconds bounds times: about thirty years.
const maxSeconds = 1_000_000_000

// duration parses a time in seconds, exactly.
func (p *parser) duration() time.Duration {
	t := p.next()
	if t.kind != tokInt && t.kind != tokFloat {
		p.fail(t.off, "expected a time, found %s", t.describe())
		return 0
	}
	if t.text[0] == '-' {
		p.fail(t.off, "the time %s is negative", clip(t.text))
		return 0
	}
	whole, frac, _ := strings.Cut(t.text, ".")
	if len(frac) > 9 {
		p.fail(t.off, "the time %s is finer than a nanosecond", clip(t.text))
		return 0
	}
	var d time.Duration
	for i := range len(whole) {
		if d = d*10 + time.Duration(whole[i]-'0'); d > maxSeconds {
			p.fail(t.off, "the time %s is longer than %d seconds", clip(t.text), maxSeconds)
			return 0
		}
	}
	d *= time.Second
	for i, unit := 0, time.Second/10; i < len(frac); i, unit = i+1, unit/10 {
		d += time.Duration(frac[i]-'0') * unit
	}
	return d
}

func (p *parser) action() Action {
	p.reason = ""
	switch t := p.peek(); {
	case t.is("<"), t.is(">"):
		return p.packetAction()
	case t.kind == tokWord:
		return p.syscall()
	case t.kind == tokCommand:
		return p.command()
	case t.kind == tokCode:
		p.next()
		return p.code(t)
	default:
		p.fail(t.off, "expected a packet, a system call, a command or a %%{ block behind the time, found %s", t.describe())
		return nil
	}
}
