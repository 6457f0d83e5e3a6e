package script

// Condition is an expression of a %{ }% block, over 64-bit integers; true is
// 1 and false is 0. The zero value is not valid.
type Condition struct {
	text string
}

// String returns the source text of the expression.
func (c Condition) String() string { return c.text }

// Env gives values to the names in an expression. It returns false for a
// name that it does not know.
type Env func(name string) (value int64, ok bool)
