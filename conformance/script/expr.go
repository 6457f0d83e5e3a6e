package script

import "fmt"

// Expr is an argument or result of a system call: an *Int, *Name, *Str,
// *Ellipsis, *List, *Struct, *Call, *Or or *Raw.
type Expr interface {
	fmt.Stringer
	// Position returns where the expression begins.
	Position() Position
	expr()
}

// Int is an integer.
type Int struct {
	Pos Position
	// Value is the value; a number beyond 2^63-1 wraps.
	Value int64
	// Hex says that it is written in base 16.
	Hex bool
}

// Name is a symbolic constant, as in SOL_SOCKET. Constant knows the values.
type Name struct {
	Pos  Position
	Name string
}

// Str is a string.
type Str struct {
	Pos Position
	// Value is the string, escapes resolved.
	Value string
	// Prefix says that the string is followed by "..." and is only the
	// beginning of the value.
	Prefix bool
}

// Ellipsis is "...": whatever suits the call, or any value.
type Ellipsis struct {
	Pos Position
}

// List is a list in square brackets, as in [1], which is how values stand
// that the call takes or fills in through a pointer.
type List struct {
	Pos   Position
	Elems []Expr
}

// Struct is a structure in braces, as in {fd=3, events=POLLIN}.
type Struct struct {
	Pos    Position
	Fields []Field
}

// Field is one field of a Struct.
type Field struct {
	// Name is the name of the field, or "" as in {..., 1000}.
	Name string
	// Arg is what stands in parentheses behind the name, as in
	// msg_iov(1)=[...], or nil.
	Arg Expr
	// Value is the value.
	Value Expr
}

// Field returns the value of the named field, or nil.
func (s *Struct) Field(name string) Expr {
	for i := range s.Fields {
		if s.Fields[i].Name == name {
			return s.Fields[i].Value
		}
	}
	return nil
}

// Call is a conversion, as in htons(8080) or inet_addr("192.0.2.1").
type Call struct {
	Pos  Position
	Name string
	Args []Expr
}

// Raw is an argument in a notation that is kept as text. A Syscall that has
// one is unsupported.
type Raw struct {
	Pos  Position
	Text string
}

// Or is a bitwise or, as in POLLIN|POLLOUT.
type Or struct {
	Pos  Position
	X, Y Expr
}

func (*Int) expr()      {}
func (*Name) expr()     {}
func (*Str) expr()      {}
func (*Ellipsis) expr() {}
func (*List) expr()     {}
func (*Struct) expr()   {}
func (*Call) expr()     {}
func (*Or) expr()       {}
func (*Raw) expr()      {}

// Position returns where the expression begins.
func (e *Int) Position() Position { return e.Pos }

// Position returns where the expression begins.
func (e *Name) Position() Position { return e.Pos }

// Position returns where the expression begins.
func (e *Str) Position() Position { return e.Pos }

// Position returns where the expression begins.
func (e *Ellipsis) Position() Position { return e.Pos }

// Position returns where the expression begins.
func (e *List) Position() Position { return e.Pos }

// Position returns where the expression begins.
func (e *Struct) Position() Position { return e.Pos }

// Position returns where the expression begins.
func (e *Call) Position() Position { return e.Pos }

// Position returns where the expression begins.
func (e *Or) Position() Position { return e.Pos }

// Position returns where the expression begins.
func (e *Raw) Position() Position { return e.Pos }
