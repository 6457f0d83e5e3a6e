package script

import "strings"

// readComments fills in what the script takes from its comments: the
// description, the tags, and the comments of events.
func (p *parser) readComments(s *Script) {
	s.Tags.Profile, s.Tags.IP = ProfileRFC, BothIP
	first := p.firstToken(s)
	described := p.describe(s, first)
	given := map[string]bool{}
	for i := range p.comments {
		if c := &p.comments[i]; c.isTag() {
			p.tag(&s.Tags, c, given)
		}
	}
	p.commentEvents(s, described)
}

// isTag reports whether the comment is a tag.
func (c *comment) isTag() bool { return strings.HasPrefix(c.text, "@") }

// firstToken returns the line of the first thing that is not a comment.
func (p *parser) firstToken(s *Script) int {
	pos := s.Events[0].Pos
	if len(s.Init) > 0 {
		pos = s.Init[0].Pos
	}
	if len(s.Options) > 0 {
		pos = s.Options[0].Pos
	}
	return pos.Line - 1
}

// describe takes the description from the block of comments that opens the
// script, and returns how many comments the block has.
func (p *parser) describe(s *Script, first int) int {
	var lines []string
	n := 0
	for i := range p.comments {
		c := &p.comments[i]
		if c.line >= first || i > 0 && c.line != p.comments[i-1].last+1 && len(lines) > 0 {
			break
		}
		if n = i + 1; !c.isTag() && !strings.Contains(c.text, "SPDX-License-Identifier:") {
			lines = append(lines, c.lines()...)
		}
	}
	s.Description = strings.TrimSpace(strings.Join(lines, "\n"))
	return n
}

// lines returns the lines of the comment without marks and white space.
func (c *comment) lines() []string {
	lines := strings.Split(c.text, "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(lines[i]), "*"))
	}
	return lines
}

// commentEvents gives every event the comment above it or behind it. The
// first skip comments are the description.
func (p *parser) commentEvents(s *Script, skip int) {
	above := map[int]int{}  // line that a comment of its own ends on → index
	behind := map[int]int{} // line that a comment behind something begins on → index
	for i := skip; i < len(p.comments); i++ {
		switch c := &p.comments[i]; {
		case c.isTag():
		case c.own:
			above[c.last] = i
		default:
			behind[c.line] = i
		}
	}
	for i, e := range s.Events {
		line := e.Pos.Line - 1
		var text []string
		for k, ok := above[line-1]; ok; k, ok = above[p.comments[k].line-1] {
			text = append(p.comments[k].lines(), text...)
		}
		if k, ok := behind[p.ends[i]]; ok && text == nil {
			text = p.comments[k].lines()
		}
		e.Comment = strings.TrimSpace(strings.Join(text, "\n"))
	}
}

// tag reads one //@ comment.
func (p *parser) tag(tags *Tags, c *comment, given map[string]bool) {
	key, value, ok := strings.Cut(strings.TrimPrefix(c.text, "@"), ":")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok || value == "" {
		p.fail(c.off, "a tag is a name, a colon and a value, as in \"//@ req: MUST-13\"")
		return
	}
	repeatable := key == "req" || key == "expect" || key == "option"
	if given[key] && !repeatable {
		p.fail(c.off, "the tag %q is given twice", clip(key))
	}
	given[key] = true
	switch key {
	case "title":
		tags.Title = value
	case "section":
		tags.Section = strings.Join(strings.Fields(value), " ")
	case "req":
		p.requirements(tags, c, value)
	case "profile":
		if tags.Profile = Profile(value); tags.Profile != ProfileRFC && tags.Profile != ProfileLinux {
			p.fail(c.off, "the profile is rfc or linux, not %q", clip(value))
		}
	case "ip":
		versions := map[string]IPVersions{"4": IPv4, "6": IPv6, "both": BothIP}
		if tags.IP = versions[value]; tags.IP == 0 {
			p.fail(c.off, "the version of IP is 4, 6 or both, not %q", clip(value))
		}
	case "expect":
		p.expectation(tags, c, value)
	case "option":
		name, v, ok := strings.Cut(value, "=")
		if name = strings.TrimSpace(name); !ok || name == "" {
			p.fail(c.off, "an option for the target is name=value, not %q", clip(value))
		}
		tags.TargetOptions = append(tags.TargetOptions, Setting{Pos: p.position(c.off), Name: name, Value: strings.TrimSpace(v)})
	default:
		p.fail(c.off, "the tag %q is not known; the tags are title, section, req, profile, ip, expect and option", clip(key))
	}
}

// requirements reads a list of IDs, as in "MUST-13, SHLD-2".
func (p *parser) requirements(tags *Tags, c *comment, value string) {
	for id := range strings.SplitSeq(value, ",") {
		id = strings.TrimSpace(id)
		if !validID(id) {
			p.fail(c.off, "%q is not the ID of a requirement, as in \"MUST-13\"", clip(id))
			return
		}
		for _, have := range tags.Requirements {
			if have == id {
				p.fail(c.off, "the requirement %s is given twice", clip(id))
			}
		}
		tags.Requirements = append(tags.Requirements, id)
	}
}

// validID reports whether the ID has a form like MUST-13 or RFC5961-3.2.
func validID(id string) bool {
	kind, number, ok := strings.Cut(id, "-")
	for i := range len(kind) {
		ok = ok && isWord(kind[i])
	}
	for i := range len(number) {
		ok = ok && (isWord(number[i]) || number[i] == '.' || number[i] == '-')
	}
	return ok && kind != "" && number != ""
}

// expectation reads TARGET=VERDICT REASON.
func (p *parser) expectation(tags *Tags, c *comment, value string) {
	target, rest, _ := strings.Cut(value, "=")
	verdict, reason, _ := strings.Cut(strings.TrimSpace(rest), " ")
	e := Expectation{
		Pos:     p.position(c.off),
		Target:  strings.TrimSpace(target),
		Verdict: Verdict(verdict),
		Reason:  strings.TrimSpace(reason),
	}
	_, given := tags.Expectation(e.Target)
	switch {
	case e.Target == "" || strings.ContainsAny(e.Target, " \t"):
		p.fail(c.off, "an expectation is target=verdict and a reason, not %q", clip(value))
	case e.Verdict != ExpectPass && e.Verdict != ExpectFail && e.Verdict != ExpectUnsupported:
		p.fail(c.off, "the verdict is pass, fail or unsupported, not %q", clip(verdict))
	case e.Verdict != ExpectPass && e.Reason == "":
		p.fail(c.off, "the expectation of %s needs a reason behind the verdict", clip(e.Target))
	case given:
		p.fail(c.off, "the expectation of %s is given twice", clip(e.Target))
	}
	tags.Expectations = append(tags.Expectations, e)
}
