package matrix

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline/plumbline/conformance/script"
)

// Prefix is what the names of all scripts of the matrix begin with.
const Prefix = "matrix/"

// Scripts returns a script for each cell of the table, in the order of the
// table.
func Scripts() ([]*script.Script, error) {
	events, err := parseTable(tableText)
	if err != nil {
		return nil, err
	}
	known, err := parseKnown(knownText)
	if err != nil {
		return nil, err
	}
	var out []*script.Script
	for _, e := range events {
		for _, a := range e.answers {
			for _, name := range a.states {
				c := &cell{event: e, from: *stateOf(name), line: a.line}
				text, err := c.text(a.steps, known[c.name()])
				if err != nil {
					return nil, err
				}
				delete(known, c.name())
				s, err := script.Parse(c.name(), []byte(text))
				if err != nil {
					return nil, fmt.Errorf("table:%d: %w", a.line, err)
				}
				out = append(out, s)
			}
		}
	}
	for name := range known {
		return nil, fmt.Errorf("known: the table has no cell %s", name)
	}
	return out, nil
}

// Event is a row of the table.
type Event struct {
	// Name is the second part of the name of its scripts, and Title says
	// what happens.
	Name, Title string
	// Section is the section of RFC 9293 that the row belongs to.
	Section string
}

// Layout returns the rows and the columns of the table, in its order.
func Layout() (events []Event, stateNames []string, err error) {
	table, err := parseTable(tableText)
	for _, e := range table {
		events = append(events, Event{Name: e.name, Title: e.title, Section: e.section})
	}
	for _, s := range states {
		stateNames = append(stateNames, s.name)
	}
	return events, stateNames, err
}

// cell is one cell of the table, on its way to a script.
type cell struct {
	event *event
	from  state
	line  int
	// from holds the numbers as they are; what follows collects the script.
	out strings.Builder
	// next are the states that may follow, as the table has them.
	next []string
}

// name is the name of the script.
func (c *cell) name() string { return Prefix + c.from.name + "/" + c.event.name }

// text returns the script.
func (c *cell) text(steps string, expectations []string) (string, error) {
	c.header(expectations)
	c.enter()
	call, err := c.fill(c.event.call)
	if err != nil {
		return "", err
	}
	if c.event.arrives != "" {
		if err := c.add("+" + c.event.after + " " + c.event.arrives); err != nil {
			return "", err
		}
	}
	for i, step := range strings.Split(steps, ";") {
		step, next, moves := strings.Cut(step, "->")
		if moves {
			c.next = strings.Split(strings.TrimSpace(next), " or ")
		}
		step = strings.TrimSpace(step)
		if i == 0 && call != "" {
			step = "+" + c.event.after + " " + call + " " + step
		}
		if err := c.step(step); err != nil {
			return "", err
		}
	}
	if err := c.prove(); err != nil {
		return "", err
	}
	return c.out.String(), nil
}

// header writes the tags.
func (c *cell) header(expectations []string) {
	section := c.event.section
	if strings.HasPrefix(section, "3.10.7") || section == "3.1" {
		section = c.from.section
	}
	fmt.Fprintf(&c.out, "// %s: %s\n//@ title: %s: %s\n//@ section: RFC 9293 %s\n",
		c.from.name, c.event.title, c.from.name, c.event.title, section)
	if c.event.requirements != "" {
		fmt.Fprintf(&c.out, "//@ req: %s\n", c.event.requirements)
	}
	for _, e := range expectations {
		fmt.Fprintf(&c.out, "//@ expect: %s\n", e)
	}
	c.out.WriteString("\n")
}

// enter writes what leads to the state, with what the event needs besides.
func (c *cell) enter() {
	c.out.WriteString(c.from.enter)
	if c.from.name == "CLOSED" && c.event.arrives == "" {
		c.out.WriteString("   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3\n  +0 fcntl(3, F_SETFL, O_RDWR|O_NONBLOCK) = 0\n")
	}
	if c.event.before != "" {
		before, _ := c.fill(c.event.before)
		c.out.WriteString("  +0 " + before + "\n")
	}
	if c.event.inFlight && c.from.sends {
		fmt.Fprintf(&c.out, "+.02 write(%s, ..., 100) = 100\n  +0 > P. %d:%d(100) ack %d\n",
			c.from.fd, c.from.nxt, c.from.nxt+100, c.from.rcv)
		c.from.nxt += 100
	}
	if c.out.Len() > 0 {
		c.out.WriteString("\n")
	}
}

// symbol is a number of the connection in the table.
var symbol = regexp.MustCompile(`\{(RCV|UNA|NXT|ACK|FD)([+-][0-9]+)?\}`)

// fill puts the numbers in the place of their symbols.
func (c *cell) fill(text string) (string, error) {
	var err error
	out := symbol.ReplaceAllStringFunc(text, func(s string) string {
		m := symbol.FindStringSubmatch(s)
		offset, _ := strconv.Atoi("0" + strings.TrimLeft(m[2], "+-"))
		if strings.HasPrefix(m[2], "-") {
			offset = -offset
		}
		n := map[string]uint32{"RCV": c.from.rcv, "UNA": c.from.una, "NXT": c.from.nxt, "ACK": c.from.ack}[m[1]]
		if m[1] != "FD" {
			return strconv.FormatUint(uint64(n+uint32(int32(offset))), 10)
		}
		if c.from.fd == "" {
			err = fmt.Errorf("table:%d: %s has no descriptor", c.line, c.from.name)
		}
		return c.from.fd
	})
	return out, err
}

// add writes an event, with symbols filled in.
func (c *cell) add(text string) error {
	text, err := c.fill(text)
	c.out.WriteString(text + "\n")
	return err
}

// step writes one step of the answer.
func (c *cell) step(s string) error {
	const ack = ". {NXT}:{NXT}(0) ack {RCV}"
	word, rest, _ := strings.Cut(s, " ")
	switch {
	case s == "nothing":
		return c.add("+0...0.05 > none")
	case s == "ack":
		return c.add("+0 > " + ack)
	case s == "ack or nothing":
		return c.add("+0 > { " + ack + " } or none")
	case s == "rst":
		return c.add("+0 > R {ACK}:{ACK}(0)")
	case word == "ack":
		n, err := strconv.Atoi(rest)
		if err != nil {
			return fmt.Errorf("table:%d: expected a number of octets, found %q", c.line, rest)
		}
		c.from.rcv += uint32(n)
		return c.add("+0~+.5 > " + ack)
	case word == "=":
		if c.from.fd == "" {
			return fmt.Errorf("table:%d: %s has no descriptor to call with", c.line, c.from.name)
		}
		return c.add("+0 " + rest)
	case word == ">":
		return c.add("+0 " + s)
	case word == "{":
		return c.add("+0 > " + s)
	case strings.HasPrefix(s, "+"):
		return c.add(s)
	}
	return fmt.Errorf("table:%d: unknown step %q", c.line, s)
}

// reaches reports whether a state is among those that follow.
func (c *cell) reaches(name string) bool { return slices.Contains(c.next, name) }

// prove writes what shows that the state is the one that the table has. What
// the application has closed tells nothing, so that only segments do.
func (c *cell) prove() error {
	closed := strings.HasPrefix(c.event.call, "close")
	switch {
	case c.reaches("any"), c.next == nil && (closed || c.from.name == "CLOSED"):
		return nil
	case c.next == nil:
		c.next = []string{c.from.name}
	case len(c.next) == 2:
		return c.addAll("+1 < F. {RCV-1}:{RCV-1}(0) ack {NXT} win 30000",
			"+0 > { . {NXT}:{NXT}(0) ack {RCV} } or { R {NXT}:{NXT}(0) }")
	}
	to := stateOf(c.next[0])
	if to == nil {
		return fmt.Errorf("table:%d: there is no state %q", c.line, c.next[0])
	}
	const another = "+0 < 50999 > 8080 S 0:0(0) win 30000 <mss 1000>"
	switch {
	case to.name == "LISTEN" && c.from.name == "LISTEN":
		return c.addAll(another, "+0 > 8080 > 50999 S. 0:0(0) ack 1 <...>")
	case to.name == "LISTEN":
		return c.addAll("+0 < . {RCV}:{RCV}(0) ack {NXT} win 30000", "+0 > R {NXT}:{NXT}(0)",
			another, "+0 > 8080 > 50999 S. 0:0(0) ack 1 <...>")
	case to.name == "CLOSED" && c.from.name == "LISTEN":
		return c.addAll(another, "+0 > 8080 > 50999 R. 0:0(0) ack 1")
	case to.name == "CLOSED":
		return c.addAll("+0 < . {RCV}:{RCV}(0) ack {NXT} win 30000", "+0 > R {NXT}:{NXT}(0)")
	case to.name == "TIME-WAIT":
		return c.addAll("+1 < F. {RCV-1}:{RCV-1}(0) ack {NXT} win 30000", "+0 > . {NXT}:{NXT}(0) ack {RCV}")
	case to.name == "SYN-RECEIVED":
		return c.addAll("+.02 < . 1:1(0) ack 1 win 30000", "+0 accept(3, ..., ...) = 4")
	case c.from.name == "SYN-RECEIVED":
		if err := c.add("+0 accept(3, ..., ...) = 4"); err != nil {
			return err
		}
	}
	return c.add(fmt.Sprintf("+0 %%{ assert tcpi_state == %d, tcpi_state }%%", to.number))
}

// addAll writes several events.
func (c *cell) addAll(events ...string) error {
	for _, e := range events {
		if err := c.add(e); err != nil {
			return err
		}
	}
	return nil
}
