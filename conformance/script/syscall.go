package script

import (
	"strconv"
	"strings"
)

// syscall parses NAME(ARGS) = RESULT [ERRNO] [(NOTE)].
func (p *parser) syscall() *Syscall {
	t := p.next()
	s := &Syscall{Pos: p.position(t.off), Name: t.text}
	p.expect("(", "behind the name of the system call")
	if !p.accept(")") {
		s.Args = p.exprs()
		p.expect(")", "behind the arguments")
	}
	p.expect("=", "before the result of the system call")
	s.Result = p.result()
	if p.peek().kind == tokWord {
		s.Errno = p.next().text
	}
	if p.peek().is("(") {
		s.Note = p.note()
	}
	s.Reason, p.reason = p.reason, ""
	return s
}

// result parses the result of a system call. A question mark, which strace
// prints for a call that did not return, stands for any value.
func (p *parser) result() Expr {
	if t := p.peek(); t.is("?") {
		p.next()
		return &Ellipsis{Pos: p.position(t.off)}
	}
	return p.expr()
}

// note reads a remark in parentheses as text.
func (p *parser) note() string {
	start := p.rewind()
	n := strings.IndexAny(p.src[start:], ")\n")
	if n < 0 || p.src[start+n] != ')' {
		p.fail(start, "the note has no ) to end it on the same line")
		return ""
	}
	p.skipTo(start + n + 1)
	return strings.Join(strings.Fields(p.src[start+1:start+n]), " ")
}

// exprs parses a list of at least one expression.
func (p *parser) exprs() []Expr {
	var list []Expr
	for p.err == nil {
		list = append(list, p.expr())
		if !p.accept(",") {
			break
		}
	}
	return list
}

// expr parses values joined by "|".
func (p *parser) expr() Expr {
	t := p.peek()
	if p.depth++; p.depth > maxDepth {
		p.fail(t.off, "the arguments nest more than %d deep", maxDepth)
	}
	defer func() { p.depth-- }()
	e := p.value()
	for n := 0; p.err == nil && p.accept("|"); n++ {
		if n == maxDepth {
			p.fail(t.off, "more than %d values are joined by |", maxDepth)
		}
		e = &Or{Pos: p.position(t.off), X: e, Y: p.value()}
	}
	return e
}

// value parses a value without an operator.
func (p *parser) value() Expr {
	t := p.peek()
	pos := p.position(t.off)
	switch {
	case t.kind == tokEllipsis:
		p.next()
		return &Ellipsis{Pos: pos}
	case t.kind == tokInt, t.kind == tokHex:
		p.next()
		return p.integer(t)
	case t.kind == tokString:
		return p.str()
	case t.is("["):
		p.next()
		l := &List{Pos: pos}
		if !p.accept("]") {
			l.Elems = p.exprs()
			p.expect("]", "behind the list")
		}
		return l
	case t.is("{"):
		return p.structure()
	case t.kind == tokWord && p.peekAt(1).is("("):
		c := &Call{Pos: pos, Name: p.next().text}
		p.next()
		if !p.accept(")") {
			c.Args = p.exprs()
			p.expect(")", "behind the arguments of "+c.Name)
		}
		return c
	case t.kind == tokWord:
		p.next()
		return &Name{Pos: pos, Name: t.text}
	}
	p.fail(t.off, "expected a value, found %s", t.describe())
	return &Ellipsis{Pos: pos}
}

// integer returns the value of a number, which wraps beyond 2^63-1.
func (p *parser) integer(t token) *Int {
	e := &Int{Pos: p.position(t.off), Hex: t.kind == tokHex}
	if v, ok := parseUint(t); ok {
		e.Value = int64(v)
		return e
	}
	v, err := strconv.ParseInt(t.text, 10, 64)
	if err != nil {
		p.fail(t.off, "the number %s does not fit into 64 bits", clip(t.text))
	}
	e.Value = v
	return e
}

// str parses adjacent strings, which are one string.
func (p *parser) str() *Str {
	s := &Str{Pos: p.position(p.peek().off)}
	for p.peek().kind == tokString {
		s.Value += p.unescape(p.next())
	}
	if p.peek().kind == tokEllipsis {
		p.next()
		s.Prefix = true
	}
	return s
}

// structure parses {NAME=VALUE, NAME(ARG)=VALUE, VALUE, ...}.
func (p *parser) structure() Expr {
	open := p.peek()
	s := &Struct{Pos: p.position(open.off)}
	if p.foreign() {
		return p.rawStructure()
	}
	p.next()
	if p.accept("}") {
		return s
	}
	for p.err == nil {
		s.Fields = append(s.Fields, p.field())
		if !p.accept(",") {
			break
		}
	}
	p.expect("}", "behind the structure")
	return s
}

// field parses one field of a structure.
func (p *parser) field() Field {
	f := Field{}
	if t := p.peek(); t.kind == tokWord && p.peekAt(1).is("=") {
		f.Name = p.next().text
	} else if t.kind == tokWord && p.peekAt(1).is("(") {
		e := p.expr()
		c, ok := e.(*Call)
		if !p.peek().is("=") {
			return Field{Value: e}
		}
		if !ok || len(c.Args) != 1 {
			p.fail(t.off, "a field of a structure is a name, perhaps one value in parentheses, an equals sign and a value")
			return f
		}
		f.Name, f.Arg = c.Name, c.Args[0]
	} else {
		f.Value = p.expr()
		return f
	}
	p.next()
	f.Value = p.expr()
	return f
}

// foreign reports whether the structure that comes next is in one of the
// notations for headers of tunnels.
func (p *parser) foreign() bool {
	return p.peekAt(1).is("(") || p.peekAt(1).is("flags") && !p.peekAt(2).is("=")
}

// rawStructure reads a structure as text.
func (p *parser) rawStructure() Expr {
	start := p.rewind()
	n := strings.IndexAny(p.src[start:], "}\n")
	if n < 0 || p.src[start+n] != '}' {
		p.fail(start, "the structure has no } to end it on the same line")
		return &Raw{}
	}
	p.skipTo(start + n + 1)
	p.unsupported("structures for headers of tunnels are not supported")
	return &Raw{Pos: p.position(start), Text: p.src[start : start+n+1]}
}
