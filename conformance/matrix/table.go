package matrix

import (
	_ "embed"
	"fmt"
	"strings"
)

//go:embed table.txt
var tableText string

//go:embed known.txt
var knownText string

// event is one block of the table.
type event struct {
	name, title, section string
	requirements         string
	// arrives is the segment that arrives, or "".
	arrives string
	// call is the call that is made, or "". Before is a call before it.
	call, before string
	// after is how many seconds after the state was entered it happens.
	after string
	// inFlight says that the TCP has text in flight.
	inFlight bool
	answers  []answer
}

// answer is a line of the table: what some states answer.
type answer struct {
	line   int
	states []string
	steps  string
}

// parseTable reads a table. Errors name the line.
func parseTable(text string) ([]*event, error) {
	var events []*event
	var section string
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimRight(line, " \t\r")
		rest, isSection := strings.CutPrefix(line, "## ")
		name, isEvent := strings.CutPrefix(line, "event ")
		switch {
		case isSection:
			section, _, _ = strings.Cut(rest, " ")
		case line == "" || strings.HasPrefix(line, "#"):
		case isEvent:
			events = append(events, &event{name: strings.TrimSpace(name), section: section, after: ".02"})
		case len(events) == 0 || !strings.HasPrefix(line, "  "):
			return nil, fmt.Errorf("table:%d: expected an event, found %q", i+1, line)
		default:
			if err := events[len(events)-1].parseLine(i+1, strings.TrimSpace(line)); err != nil {
				return nil, err
			}
		}
	}
	return events, nil
}

// parseLine reads a line of the block of an event.
func (e *event) parseLine(number int, line string) error {
	if strings.HasPrefix(line, "<") {
		e.arrives = line
		return nil
	}
	key, value, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("table:%d: expected a name and a colon, found %q", number, line)
	}
	switch key {
	case "title":
		e.title = value
	case "req":
		e.requirements = value
	case "call":
		e.call = value
	case "after":
		e.after = value
	case "before":
		e.before = value
	case "with":
		if e.inFlight = value == "text in flight"; !e.inFlight {
			return fmt.Errorf("table:%d: there is no %q to be with", number, value)
		}
	default:
		names := strings.Fields(key)
		for _, n := range names {
			if stateOf(n) == nil {
				return fmt.Errorf("table:%d: there is no state %q", number, n)
			}
		}
		e.answers = append(e.answers, answer{line: number, states: names, steps: value})
	}
	return nil
}

// parseKnown reads the list of known failures: the name of a script, then an
// expectation. It returns the expectations by name.
func parseKnown(text string) (map[string][]string, error) {
	known := make(map[string][]string)
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, expect, ok := strings.Cut(line, " ")
		if !ok {
			return nil, fmt.Errorf("known:%d: expected the name of a cell and an expectation, found %q", i+1, line)
		}
		known[name] = append(known[name], strings.TrimSpace(expect))
	}
	return known, nil
}
