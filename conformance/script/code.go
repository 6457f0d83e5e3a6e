package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Statement is one statement of a %{ }% block: an *Assert, *Assign or
// *Print.
type Statement interface {
	// String returns the statement as it is written.
	String() string
	statement()
}

// Assert is "assert CONDITION" or "assert CONDITION, MESSAGE".
type Assert struct {
	Pos Position
	// Cond must not be 0.
	Cond Formula
	// Message is the source text of the message, or "".
	Message string
}

// Assign is "NAME = VALUE" or, with another operator, "NAME += VALUE" and so
// on. The variable lives until the end of the script.
type Assign struct {
	Pos  Position
	Name string
	// Op is the operator in front of the equals sign, as in "+", or "".
	Op    string
	Value Formula
}

// Print is "print(...)", which does nothing.
type Print struct {
	Pos Position
	// Text is the source text of what would be printed.
	Text string
}

// String returns the statement.
func (s *Assert) String() string {
	if s.Message == "" {
		return "assert " + s.Cond.String()
	}
	return "assert " + s.Cond.String() + ", " + s.Message
}

// String returns the statement.
func (s *Assign) String() string { return s.Name + " " + s.Op + "= " + s.Value.String() }

// String returns the statement.
func (s *Print) String() string { return "print" + s.Text }

func (*Assert) statement() {}
func (*Assign) statement() {}
func (*Print) statement()  {}

// Outcome is what a %{ }% block found.
type Outcome struct {
	// Failed is the first assertion that does not hold, or nil. An assertion
	// fails only if it does whatever the unknown names may be.
	Failed *Assert
	// Detail says what the names in the failed assertion are, as in
	// "tcpi_snd_cwnd is 9".
	Detail string
	// Unknown are the names without a value that made an assertion
	// undecidable, sorted.
	Unknown []string
}

// Eval runs the statements. A name is looked up in vars, where assignments go,
// then in env, then among the constants. The caller keeps vars from one block
// of a script to the next; it must not be nil. An error is an arithmetical
// one, as a division by zero, or says that the block is not supported.
func (c *Code) Eval(env Env, vars map[string]int64) (Outcome, error) {
	var out Outcome
	if c.Reason != "" {
		return out, &Error{Pos: c.Pos, Msg: c.Reason}
	}
	unknown := map[string]bool{}
	for _, s := range c.Statements {
		switch s := s.(type) {
		case *Assert:
			v, err := s.Cond.eval(scope{env, vars, unknown})
			if err != nil {
				return out, &Error{Pos: s.Pos, Msg: err.Error()}
			}
			if v.known && v.n == 0 && out.Failed == nil {
				out.Failed, out.Detail = s, s.Cond.detail(scope{env, vars, map[string]bool{}})
			}
		case *Assign:
			if err := s.run(scope{env, vars, unknown}); err != nil {
				return out, &Error{Pos: s.Pos, Msg: err.Error()}
			}
		}
	}
	for name := range unknown {
		out.Unknown = append(out.Unknown, name)
	}
	slices.Sort(out.Unknown)
	return out, nil
}

// run assigns. If the value is unknown, so is the variable from then on.
func (s *Assign) run(sc scope) error {
	v, err := s.Value.eval(sc)
	if err != nil {
		return err
	}
	if s.Op != "" {
		v, err = binary(s.Op, sc.lookup(s.Name), v)
		if err != nil {
			return err
		}
	}
	if v.known {
		sc.vars[s.Name] = v.n
	} else {
		delete(sc.vars, s.Name)
	}
	return nil
}

// detail says what the names in the formula are.
func (f Formula) detail(sc scope) string {
	var parts []string
	seen := map[string]bool{}
	f.root.names(func(name string) {
		if v := sc.lookup(name); v.known && !seen[name] {
			seen[name] = true
			parts = append(parts, fmt.Sprintf("%s is %d", name, v.n))
		}
	})
	return strings.Join(parts, ", ")
}

// codeKind is the kind of a token of code.
type codeKind uint8

const (
	codeEnd    codeKind = iota
	codeBreak           // the end of a statement: newline or semicolon
	codeName            // tcpi_rtt
	codeNumber          // 10, 0x7f
	codeString          // 'text', "text"
	codeOp              // everything else
)

// codeToken is a token of code, at an offset in its text.
type codeToken struct {
	kind     codeKind
	text     string
	off, end int
}

// codeOps are the operators of more than one character, longest first.
var codeOps = []string{
	"//=", "<<=", ">>=", "**", "==", "!=", "<=", ">=", "<<", ">>", "//",
	"+=", "-=", "*=", "/=", "%=", "&=", "|=", "^=",
}

// maxCode is the most tokens in a block of code. It bounds how deep a formula
// can be, since a chain such as 1+1+1 is a tree as deep as it is long.
const maxCode = 10_000

// codeTokens cuts code into tokens. Newlines count only outside brackets.
func codeTokens(src string) ([]codeToken, error) {
	var tokens []codeToken
	nested := 0
	for i := 0; i < len(src); {
		rest := src[i:]
		kind, n := codeOp, 1
		switch c := src[i]; {
		case c == '\n' && nested > 0, c == ' ', c == '\t', c == '\r':
			i++
			continue
		case c == '\n', c == ';':
			kind = codeBreak
		case c == '\\' && continues(rest) > 0:
			i += continues(rest)
			continue
		case c == '#':
			if n = strings.IndexByte(rest, '\n'); n < 0 {
				n = len(rest)
			}
			i += n
			continue
		case c == '"' || c == '\'':
			if kind, n = codeString, closing(rest, c)+1; n == 0 {
				return nil, fmt.Errorf("a string has no end")
			}
		case isDigit(c):
			kind, n = codeNumber, wordLen(rest)
		case isLetter(c):
			kind, n = codeName, wordLen(rest)
		case c == '(' || c == '[' || c == '{':
			nested++
		case c == ')' || c == ']' || c == '}':
			nested--
		default:
			n = operatorLen(rest)
		}
		if len(tokens) == maxCode {
			return nil, fmt.Errorf("it has more than %d tokens", maxCode)
		}
		tokens = append(tokens, codeToken{kind, src[i : i+n], i, i + n})
		i += n
	}
	return append(tokens, codeToken{kind: codeEnd, off: len(src), end: len(src)}), nil
}

// continues returns the length of the backslash at the start of s and of the
// end of the line that it hides, which may be the end of the code; 0 if the
// line goes on.
func continues(s string) int {
	line, _, _ := strings.Cut(s, "\n")
	if strings.Trim(line[1:], " \t\r") != "" {
		return 0
	}
	return min(len(line)+1, len(s))
}

// operatorLen returns the length of the operator at the start of s.
func operatorLen(s string) int {
	for _, op := range codeOps {
		if strings.HasPrefix(s, op) {
			return len(op)
		}
	}
	return 1
}

// codeParser parses code. The first error stays.
type codeParser struct {
	src    string
	tokens []codeToken
	depth  int
	err    error
	// position turns an offset in src into a position.
	position func(off int) Position
}

// code parses a %{ }% block. What is outside the grammar is no error.
func (p *parser) code(t token) *Code {
	start := t.off + len("%{")
	c := &Code{Pos: p.position(t.off), Text: strings.Trim(t.text, " \t\r\n")}
	tokens, err := codeTokens(t.text)
	if err != nil {
		c.Reason = "the code is outside the grammar: " + err.Error()
		return c
	}
	cp := &codeParser{src: t.text, tokens: tokens, position: func(off int) Position {
		return p.position(start + off)
	}}
	c.Statements = cp.statements()
	if cp.err != nil {
		c.Statements, c.Reason = nil, "the code is outside the grammar: "+cp.err.Error()
	}
	return c
}

func (p *codeParser) peek() codeToken { return p.tokens[0] }

func (p *codeParser) next() codeToken {
	t := p.tokens[0]
	if len(p.tokens) > 1 {
		p.tokens = p.tokens[1:]
	}
	return t
}

// accept takes the given name or operator if it comes next.
func (p *codeParser) accept(text string) bool {
	t := p.peek()
	if (t.kind == codeName || t.kind == codeOp) && t.text == text {
		p.next()
		return true
	}
	return false
}

// fail keeps the first error and goes to the end of the code.
func (p *codeParser) fail(format string, args ...any) {
	if p.err == nil {
		p.err = fmt.Errorf(format, args...)
	}
	p.tokens = p.tokens[len(p.tokens)-1:]
}

// describe names a token in a message.
func (t codeToken) describe() string {
	switch t.kind {
	case codeEnd:
		return "the end of the code"
	case codeBreak:
		return "the end of the statement"
	}
	return strconv.Quote(clip(t.text))
}

func (p *codeParser) statements() []Statement {
	var list []Statement
	for p.err == nil {
		switch t := p.peek(); t.kind {
		case codeEnd:
			return list
		case codeBreak:
			p.next()
			continue
		}
		list = append(list, p.statement())
		if t := p.peek(); t.kind != codeEnd && t.kind != codeBreak {
			p.fail("%s is not expected there", t.describe())
		}
	}
	return list
}

func (p *codeParser) statement() Statement {
	t := p.next()
	pos := p.position(t.off)
	switch {
	case t.kind == codeName && t.text == "assert":
		s := &Assert{Pos: pos, Cond: p.formula()}
		if p.accept(",") {
			s.Message = p.text()
		}
		return s
	case t.kind == codeName && t.text == "print":
		return &Print{Pos: pos, Text: p.text()}
	case t.kind == codeName && !keywords[t.text]:
		op, ok := strings.CutSuffix(p.peek().text, "=")
		if ok && p.peek().kind == codeOp && (op == "" || level(op) > compareLevel) {
			p.next()
			return &Assign{Pos: pos, Name: t.text, Op: op, Value: p.formula()}
		}
	}
	p.fail("a statement is an assert, an assignment or a print, not one that begins with %s", t.describe())
	return nil
}

// text reads the rest of the statement as text.
func (p *codeParser) text() string {
	start, end := p.peek().off, p.peek().off
	for p.peek().kind != codeEnd && p.peek().kind != codeBreak {
		end = p.next().end
	}
	return p.src[start:end]
}
