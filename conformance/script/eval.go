package script

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Formula is an expression of a %{ }% block, over 64-bit integers; true is 1
// and false is 0. The zero value is not valid; ParseExpr makes one.
type Formula struct {
	root node
	text string
}

// String returns the source text of the expression, white space reduced.
func (f Formula) String() string { return f.text }

// Env gives values to the names in an expression. It returns false for a
// name that it does not know.
type Env func(name string) (value int64, ok bool)

// Eval returns the value of the expression. A name that env does not know is
// looked up among the constants. If the value depends on names that neither
// knows, unknown lists them, sorted, and value is 0. An error is an
// arithmetical one.
func (f Formula) Eval(env Env) (value int64, unknown []string, err error) {
	names := map[string]bool{}
	v, err := f.eval(scope{env, nil, names})
	if err != nil || v.known {
		return v.n, nil, err
	}
	for name := range names {
		unknown = append(unknown, name)
	}
	slices.Sort(unknown)
	return 0, unknown, nil
}

// scope is where names get their values.
type scope struct {
	env  Env
	vars map[string]int64
	// unknown collects the names that made a result unknown.
	unknown map[string]bool
}

// lookup returns the value of a name.
func (sc scope) lookup(name string) value {
	if n, ok := sc.vars[name]; ok {
		return known(n)
	}
	if sc.env != nil {
		if n, ok := sc.env(name); ok {
			return known(n)
		}
	}
	if n, ok := Constant(name); ok {
		return known(n)
	}
	return value{missing: []string{name}}
}

// eval evaluates the formula and, if the result is unknown, adds the names at
// fault to the scope.
func (f Formula) eval(sc scope) (value, error) {
	v, err := f.root.eval(sc)
	for _, name := range v.missing {
		sc.unknown[name] = true
	}
	return v, err
}

// value is a number, or unknown because of the missing names.
type value struct {
	n       int64
	known   bool
	missing []string
}

func known(n int64) value { return value{n: n, known: true} }

func truth(b bool) value {
	if b {
		return known(1)
	}
	return known(0)
}

// without is an unknown value that lacks what all of vs lack.
func without(vs ...value) value {
	var v value
	for _, o := range vs {
		v.missing = append(v.missing, o.missing...)
	}
	return v
}

// node is an inner node or leaf of a formula.
type node interface {
	eval(sc scope) (value, error)
	// names calls f for every name in the node.
	names(f func(string))
}

type (
	numberNode int64
	nameNode   string
	// unaryNode is -x, ~x, +x or not x.
	unaryNode struct {
		op string
		x  node
	}
	// binaryNode is an arithmetical operator.
	binaryNode struct {
		op   string
		x, y node
	}
	// logicNode is "and" or "or".
	logicNode struct {
		and  bool
		x, y node
	}
	// compareNode is a chain such as 1 <= x < 5.
	compareNode struct {
		ops   []string
		terms []node
	}
	// memberNode is "x in (a, b)".
	memberNode struct {
		not  bool
		x    node
		list []node
	}
	// callNode is abs, min or max.
	callNode struct {
		name string
		args []node
	}
)

func (n numberNode) eval(scope) (value, error)  { return known(int64(n)), nil }
func (n nameNode) eval(sc scope) (value, error) { return sc.lookup(string(n)), nil }

func (n *unaryNode) eval(sc scope) (value, error) {
	v, err := n.x.eval(sc)
	if err != nil || !v.known {
		return v, err
	}
	switch n.op {
	case "-":
		return known(-v.n), nil
	case "~":
		return known(^v.n), nil
	case "not":
		return truth(v.n == 0), nil
	}
	return v, nil
}

func (n *binaryNode) eval(sc scope) (value, error) {
	x, err := n.x.eval(sc)
	if err != nil {
		return x, err
	}
	y, err := n.y.eval(sc)
	if err != nil {
		return y, err
	}
	return binary(n.op, x, y)
}

// eval decides as soon as one side does, whatever the other may be.
func (n *logicNode) eval(sc scope) (value, error) {
	x, err := n.x.eval(sc)
	if err != nil {
		return x, err
	}
	if x.known && (x.n != 0) != n.and {
		return truth(!n.and), nil
	}
	y, err := n.y.eval(sc)
	switch {
	case err != nil:
		return y, err
	case y.known && (y.n != 0) != n.and:
		return truth(!n.and), nil
	case x.known && y.known:
		return truth(n.and), nil
	}
	return without(x, y), nil
}

func (n *compareNode) eval(sc scope) (value, error) {
	var open []value
	left, err := n.terms[0].eval(sc)
	if err != nil {
		return left, err
	}
	for i, op := range n.ops {
		right, err := n.terms[i+1].eval(sc)
		if err != nil {
			return right, err
		}
		if !left.known || !right.known {
			open = append(open, left, right)
		} else if !compare(op, left.n, right.n) {
			return truth(false), nil
		}
		left = right
	}
	if open != nil {
		return without(open...), nil
	}
	return truth(true), nil
}

func compare(op string, x, y int64) bool {
	switch op {
	case "==":
		return x == y
	case "!=":
		return x != y
	case "<":
		return x < y
	case "<=":
		return x <= y
	case ">":
		return x > y
	}
	return x >= y
}

func (n *memberNode) eval(sc scope) (value, error) {
	x, err := n.x.eval(sc)
	if err != nil {
		return x, err
	}
	var open []value
	for _, e := range n.list {
		v, err := e.eval(sc)
		if err != nil {
			return v, err
		}
		if !v.known || !x.known {
			open = append(open, v)
		} else if v.n == x.n {
			return truth(!n.not), nil
		}
	}
	if open != nil {
		return without(append(open, x)...), nil
	}
	return truth(n.not), nil
}

func (n *callNode) eval(sc scope) (value, error) {
	vs := make([]value, len(n.args))
	all := true
	for i, a := range n.args {
		v, err := a.eval(sc)
		if err != nil {
			return v, err
		}
		vs[i], all = v, all && v.known
	}
	if !all {
		return without(vs...), nil
	}
	r := vs[0].n
	for _, v := range vs[1:] {
		if n.name == "min" {
			r = min(r, v.n)
		} else {
			r = max(r, v.n)
		}
	}
	if n.name == "abs" && r < 0 {
		r = -r
	}
	return known(r), nil
}

// binary applies an arithmetical operator.
func binary(op string, x, y value) (value, error) {
	if !x.known || !y.known {
		return without(x, y), nil
	}
	n, err := arithmetic(op, x.n, y.n)
	return known(n), err
}

// arithmetic computes as Python does, except that numbers have 64 bits and
// "/" is "//": both round towards minus infinity.
func arithmetic(op string, x, y int64) (int64, error) {
	switch op {
	case "+":
		return x + y, nil
	case "-":
		return x - y, nil
	case "*":
		return x * y, nil
	case "&":
		return x & y, nil
	case "|":
		return x | y, nil
	case "^":
		return x ^ y, nil
	case "<<", ">>":
		if y < 0 || y > 63 {
			return 0, fmt.Errorf("shift by %d is not within 0 and 63", y)
		}
		if op == "<<" {
			return x << y, nil
		}
		return x >> y, nil
	}
	if y == 0 {
		return 0, errors.New("division by zero")
	}
	if x == math.MinInt64 && y == -1 {
		return 0, errors.New("division overflows 64 bits")
	}
	q, r := x/y, x%y
	if r != 0 && (r < 0) != (y < 0) {
		q, r = q-1, r+y
	}
	if op == "%" {
		return r, nil
	}
	return q, nil
}

func (numberNode) names(func(string))     {}
func (n nameNode) names(f func(string))   { f(string(n)) }
func (n *unaryNode) names(f func(string)) { n.x.names(f) }
func (n *binaryNode) names(f func(string)) {
	n.x.names(f)
	n.y.names(f)
}
func (n *logicNode) names(f func(string)) {
	n.x.names(f)
	n.y.names(f)
}
func (n *compareNode) names(f func(string)) {
	for _, t := range n.terms {
		t.names(f)
	}
}
func (n *memberNode) names(f func(string)) {
	n.x.names(f)
	for _, e := range n.list {
		e.names(f)
	}
}
func (n *callNode) names(f func(string)) {
	for _, a := range n.args {
		a.names(f)
	}
}
