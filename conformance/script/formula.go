package script

import (
	"slices"
	"strconv"
	"strings"
)

// ParseExpr reads one expression. An error says what lies outside the
// grammar; it is an *Error with the given name for a file.
func ParseExpr(name, src string) (Formula, error) {
	lx := newLexer(name, src, nil)
	tokens, err := codeTokens(src)
	if err == nil {
		p := &codeParser{src: src, tokens: tokens, position: lx.position}
		f := p.formula()
		if t := p.peek(); t.kind != codeEnd {
			p.fail("%s is not expected there", t.describe())
		}
		if err = p.err; err == nil {
			return f, nil
		}
	}
	return Formula{}, &Error{Pos: lx.position(0), Msg: err.Error()}
}

// keywords are names that are no operands.
var keywords = map[string]bool{
	"and": true, "or": true, "not": true, "in": true, "is": true, "if": true, "else": true, "elif": true,
	"for": true, "while": true, "def": true, "class": true, "import": true, "from": true, "return": true,
	"lambda": true, "assert": true, "print": true, "with": true, "try": true, "except": true, "raise": true,
	"pass": true, "del": true, "global": true, "None": true,
}

// compareLevel is the level of comparisons; operators of arithmetic are above.
const compareLevel = 1

// level returns how tightly an arithmetical operator binds, in the order of
// Python; 0 if it is none.
func level(op string) int {
	switch op {
	case "|":
		return 2
	case "^":
		return 3
	case "&":
		return 4
	case "<<", ">>":
		return 5
	case "+", "-":
		return 6
	case "*", "/", "//", "%":
		return 7
	}
	return 0
}

// formula parses an expression.
func (p *codeParser) formula() Formula {
	first := p.tokens
	f := Formula{root: p.or()}
	var b strings.Builder
	for i, t := range first[:len(first)-len(p.tokens)] {
		if i > 0 && t.off > first[i-1].end {
			b.WriteByte(' ')
		}
		b.WriteString(t.text)
	}
	f.text = b.String()
	return f
}

func (p *codeParser) or() node {
	x := p.and()
	for p.accept("or") {
		x = &logicNode{and: false, x: x, y: p.and()}
	}
	return x
}

func (p *codeParser) and() node {
	x := p.not()
	for p.accept("and") {
		x = &logicNode{and: true, x: x, y: p.not()}
	}
	return x
}

func (p *codeParser) not() node {
	if !p.enter() {
		return numberNode(0)
	}
	defer p.leave()
	if p.accept("not") {
		return &unaryNode{op: "not", x: p.not()}
	}
	return p.comparison()
}

// enter counts a level of nesting and reports whether it is allowed.
func (p *codeParser) enter() bool {
	if p.depth++; p.depth > maxDepth {
		p.fail("it nests more than %d deep", maxDepth)
	}
	return p.err == nil
}

func (p *codeParser) leave() { p.depth-- }

// comparison parses a chain of comparisons, or "in" with a list.
func (p *codeParser) comparison() node {
	x := p.arithmetic(compareLevel + 1)
	t := p.peek()
	if not := t.text == "not" && t.kind == codeName; not || t.text == "in" && t.kind == codeName {
		p.next()
		if not && !p.accept("in") {
			p.fail(`"not" behind a value needs "in"`)
		}
		return &memberNode{not: not, x: x, list: p.list()}
	}
	chain := &compareNode{terms: []node{x}}
	for {
		t := p.peek()
		if t.kind != codeOp || !slices.Contains([]string{"==", "!=", "<", "<=", ">", ">="}, t.text) {
			break
		}
		p.next()
		chain.ops = append(chain.ops, t.text)
		chain.terms = append(chain.terms, p.arithmetic(compareLevel+1))
	}
	if len(chain.ops) == 0 {
		return x
	}
	return chain
}

// list parses (a, b) or [a, b].
func (p *codeParser) list() []node {
	end := ")"
	if p.accept("[") {
		end = "]"
	} else if !p.accept("(") {
		p.fail(`"in" needs a list in parentheses`)
		return nil
	}
	list := []node{}
	for p.err == nil && !p.accept(end) {
		list = append(list, p.or())
		if !p.accept(",") {
			if !p.accept(end) {
				p.fail("the list behind \"in\" has no %s to end it", end)
			}
			break
		}
	}
	return list
}

// arithmetic parses operators that bind at least as tightly as lowest.
func (p *codeParser) arithmetic(lowest int) node {
	x := p.unary()
	for {
		t := p.peek()
		l := level(t.text)
		if t.kind != codeOp || l < lowest {
			return x
		}
		p.next()
		x = &binaryNode{op: t.text, x: x, y: p.arithmetic(l + 1)}
	}
}

func (p *codeParser) unary() node {
	if !p.enter() {
		return numberNode(0)
	}
	defer p.leave()
	for _, op := range []string{"-", "~", "+"} {
		if p.accept(op) {
			return &unaryNode{op: op, x: p.unary()}
		}
	}
	return p.primary()
}

func (p *codeParser) primary() node {
	t := p.next()
	switch {
	case t.kind == codeNumber:
		v, err := strconv.ParseUint(t.text, 0, 64)
		if err != nil {
			p.fail("%s is not an integer of 64 bits", t.describe())
		}
		return numberNode(v)
	case t.kind == codeOp && t.text == "(":
		x := p.or()
		if !p.accept(")") {
			p.fail("expected \")\", found %s", p.peek().describe())
		}
		return x
	case t.kind == codeName && p.peek().kind == codeOp && p.peek().text == "(":
		return p.call(t)
	case t.kind == codeName && t.text == "True":
		return numberNode(1)
	case t.kind == codeName && t.text == "False":
		return numberNode(0)
	case t.kind == codeName && !keywords[t.text]:
		return nameNode(t.text)
	}
	p.fail("expected a number or a name, found %s", t.describe())
	return numberNode(0)
}

// call parses the arguments of abs, min or max.
func (p *codeParser) call(name codeToken) node {
	c := &callNode{name: name.text}
	if name.text != "abs" && name.text != "min" && name.text != "max" {
		p.fail("the function %s is not known; abs, min and max are", name.describe())
		return c
	}
	c.args = p.list()
	if n := len(c.args); p.err == nil && (n == 0 || name.text == "abs" && n != 1 || name.text != "abs" && n < 2) {
		p.fail("%s has the wrong number of arguments", name.text)
	}
	return c
}
