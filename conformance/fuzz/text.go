package fuzz

import (
	"fmt"
	"strings"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// Text runs a case on a target and returns it as a script that does the same and
// expects what the target has answered.
func (c *Case) Text(kind target.Kind, title string) string {
	o := execute(kind, c, replay(c))
	if o.script == nil {
		return ""
	}
	return c.text(o, title)
}

// text returns the script of an outcome.
func (c *Case) text(o *outcome, title string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(title, "\n") {
		fmt.Fprintf(&b, "// %s\n", line)
	}
	ip := "4"
	if c.IP == 6 {
		ip = "6"
	}
	fmt.Fprintf(&b, "//@ ip: %s\n", ip)
	for _, s := range c.Settings {
		fmt.Fprintf(&b, "//@ option: %s=%s\n", s.Name, s.Value)
	}
	b.WriteByte('\n')
	b.WriteString(o.script.String())
	return b.String()
}

// write runs the case of a failure once more and writes its script.
func (f *Failure) write(kind target.Kind) {
	o := execute(kind, &f.Case, replay(&f.Case))
	now, bad := o.fails(f.Class)
	if !bad || o.script == nil {
		return
	}
	f.Text, f.Section = now.Text, now.Section
	if f.Class == "storm" {
		o.script.Events = beginning(o.script.Events)
	}
	title := fmt.Sprintf("plumbline fuzz: %s fails in %s:\n%s", kind.Name, f.Class, f.Text)
	if f.Section != "" {
		title += " (" + f.Section + ")"
	}
	f.Script = f.Case.text(o, title)
	f.Reproduced = Reproduces(kind, f.Script, f.Case.Seed)
}

// beginning returns the events up to a few behind the last that arrives.
func beginning(events []*script.Event) []*script.Event {
	last := 0
	for i, e := range events {
		if p, ok := e.Action.(*script.Packet); !ok || p.Dir == script.Inbound {
			last = i
		}
	}
	return events[:min(len(events), last+10)]
}

// FileName is the name of a file for the script of a failure.
func FileName(target, class string) string {
	return target + "-" + strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', r == '-', r == '.':
			return r
		}
		return '-'
	}, class) + ".pkt"
}

// Reproduces reports whether a script fails on a target, judged as a case is: by what
// it expects, by the octets of the streams, and by the oracle.
func Reproduces(kind target.Kind, text string, seed uint64) bool {
	s, err := script.Parse("fuzz", []byte(text))
	if err != nil {
		return false
	}
	for _, ip := range runner.Versions(s) {
		res := runner.Run(s, kind, ip, runner.Options{Seed: seed, Oracle: true, Level: runner.RFC})
		if res.Verdict == runner.Fail {
			return true
		}
	}
	return false
}
