package runner

import (
	"strings"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// infoPrefix is in front of the names of values of TCP_INFO in scripts.
const infoPrefix = "tcpi_"

// code is the event of a %{ }% block. A value that the target does not know
// makes the run unsupported in the end, unless it fails for another reason.
func (r *run) code(c *script.Code) error {
	info, err := r.info()
	if err != nil {
		return err
	}
	env := func(name string) (int64, bool) {
		short, ok := strings.CutPrefix(name, infoPrefix)
		if !ok {
			return 0, false
		}
		v, ok := info[short]
		return v, ok
	}
	out, err := c.Eval(env, r.vars)
	if err != nil {
		return r.failf("%v", err)
	}
	r.log(Other, nil, c.String())
	if out.Failed != nil {
		f := r.failf("the assertion does not hold: %v", out.Failed.Cond)
		f.Pos, f.Expected, f.Actual = out.Failed.Pos, out.Failed.String(), out.Detail
		return f
	}
	if len(out.Unknown) > 0 && r.unknown == "" {
		r.unknown = r.event.Pos.String() + ": " + r.kind.Name + " does not tell " + strings.Join(out.Unknown, ", ")
	}
	return nil
}

// info returns what the target tells about the current connection. Without a
// descriptor there is nothing to ask.
func (r *run) info() (target.Info, error) {
	if r.current == nil || r.current.file == nil {
		return nil, nil
	}
	info, err := r.target.Info(r.current.file.live)
	if target.IsUnsupported(err) != nil {
		return nil, nil
	}
	return info, err
}
