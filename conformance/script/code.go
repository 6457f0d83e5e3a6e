package script

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
	// Cond must be true.
	Cond Condition
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
	Value Condition
}

// Print is "print(...)", which does nothing.
type Print struct {
	Pos Position
	// Text is the source text of what would be printed.
	Text string
}

func (*Assert) statement() {}
func (*Assign) statement() {}
func (*Print) statement()  {}

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
func (s *Print) String() string { return "print(" + s.Text + ")" }
