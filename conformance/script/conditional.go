package script

import "strings"

// resolveConditionals returns src with the lines that its conditional
// directives leave out, and the directives themselves, replaced by spaces:
// everything else stays where it was, so that positions hold. A name is
// defined if defines has it or a --define line above the directive gives it a
// value.
//
// A directive is a line of its own that begins with #ifdef, #ifndef, #else or
// #endif; any other line that begins with # is left to the lexer.
func (lx *lexer) resolveConditionals() {
	if !strings.Contains(lx.src, "#endif") && !strings.Contains(lx.src, "#if") {
		return
	}
	var c conditionals
	out := []byte(lx.src)
	local := map[string]bool{}
	for i, start := range lx.lines {
		end := len(lx.src)
		if i+1 < len(lx.lines) {
			end = lx.lines[i+1] - 1
		}
		line := strings.TrimSpace(lx.src[start:end])
		name, isDirective := directive(line)
		if !isDirective {
			if symbol, ok := defined(line); ok && !c.skipping() {
				local[symbol] = true
			}
			if !c.skipping() {
				continue
			}
		} else {
			_, given := lx.defines[name]
			if problem := c.apply(line, name, given || local[name], start); problem != "" {
				lx.fail(start, "%s", problem)
				return
			}
		}
		for k := start; k < end; k++ {
			out[k] = ' '
		}
	}
	if n := len(c.open); n > 0 {
		lx.fail(c.open[n-1].off, "the condition has no #endif to end it")
		return
	}
	lx.src = string(out)
}

// directive splits a line such as "#ifdef NAME", and reports whether it is one.
func directive(line string) (name string, ok bool) {
	if !strings.HasPrefix(line, "#") {
		return "", false
	}
	words := strings.Fields(line[1:])
	if len(words) == 0 {
		return "", false
	}
	switch words[0] {
	case "ifdef", "ifndef":
		if len(words) > 1 {
			name = words[1]
		}
		return name, true
	case "else", "endif":
		return "", true
	}
	return "", false
}

// defined returns the symbol that an option line gives a value to.
func defined(line string) (symbol string, ok bool) {
	if value, isOption := strings.CutPrefix(line, "--define="); isOption {
		symbol, _, ok = strings.Cut(value, "=")
	}
	return symbol, ok
}

// maxConditions is how deeply conditions may nest.
const maxConditions = 50

// condition is one that no #endif has ended.
type condition struct {
	// off is where its directive begins.
	off int
	// holds says that the lines under way are in, if outer ones are.
	holds bool
	// turned says that it has had its #else.
	turned bool
}

// conditionals are the conditions around a line.
type conditionals struct {
	open []condition
}

// skipping reports whether a line is left out.
func (c *conditionals) skipping() bool {
	for _, o := range c.open {
		if !o.holds {
			return true
		}
	}
	return false
}

// apply follows a directive. It returns what is wrong with it, or "".
func (c *conditionals) apply(line, name string, isDefined bool, off int) string {
	word := strings.Fields(line[1:])[0]
	switch word {
	case "ifdef", "ifndef":
		if name == "" {
			return "#" + word + " needs the name of a symbol"
		}
		if len(c.open) == maxConditions {
			return "the conditions are nested too deeply"
		}
		c.open = append(c.open, condition{off: off, holds: isDefined == (word == "ifdef")})
		return ""
	}
	if len(c.open) == 0 {
		return "#" + word + " without a condition"
	}
	last := &c.open[len(c.open)-1]
	if word == "endif" {
		c.open = c.open[:len(c.open)-1]
		return ""
	}
	if last.turned {
		return "the condition has a second #else"
	}
	last.holds, last.turned = !last.holds, true
	return ""
}
