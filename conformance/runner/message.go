package runner

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// recvmsg is the system call of that name. What it fills in of a struct msghdr is
// compared: the flags, and the control messages if the script lists them.
func (a *args) recvmsg() prepared {
	msg := a.message()
	p := a.read(a.file(0), a.vectorSize(msg.Field("msg_iov")), a.flags(2))
	list, hasControl := msg.Field("msg_control").(*script.List)
	if !hasControl {
		return p
	}
	call := p.call.(target.Read)
	call.Message = true
	p.call = call
	want := a.controls(list)
	flags, hasFlags := a.messageFlags(msg)
	read := p.after
	p.after = func(res target.Result) string {
		d := firstOf(read(res), a.run.compareControls(want, res.Control))
		if hasFlags {
			d = firstOf(d, differ("msg_flags", fmt.Sprintf("%#x", flags), fmt.Sprintf("%#x", uint32(res.Flags))))
		}
		return d
	}
	return p
}

// messageFlags reads msg_flags, if the script gives it.
func (a *args) messageFlags(msg *script.Struct) (uint32, bool) {
	e := msg.Field("msg_flags")
	if _, open := e.(*script.Ellipsis); open || e == nil {
		return 0, false
	}
	return uint32(a.eval(e)), true
}

// controls reads a list of struct cmsghdr. A time stamp counts from the start of
// the script.
func (a *args) controls(list *script.List) []target.Control {
	var out []target.Control
	for _, e := range list.Elems {
		s, ok := e.(*script.Struct)
		if !ok {
			a.fail("%v is no control message", e)
			return nil
		}
		c := target.Control{Level: int(a.eval(s.Field("cmsg_level"))), Type: int(a.eval(s.Field("cmsg_type")))}
		data, isStruct := s.Field("cmsg_data").(*script.Struct)
		switch {
		case !isStruct:
			c.Fields = map[string]int64{"": a.eval(s.Field("cmsg_data"))}
		case data.Field("scm_sec") != nil && data.Field("scm_nsec") != nil:
			c.At = time.Duration(a.eval(data.Field("scm_sec")))*time.Second + time.Duration(a.eval(data.Field("scm_nsec")))
		default:
			c.Fields = make(map[string]int64)
			for _, f := range data.Fields {
				c.Fields[f.Name] = a.errnoOrValue(f.Value)
			}
		}
		out = append(out, c)
	}
	return out
}

// errnoOrValue evaluates an expression in which the name of an error is its
// number.
func (a *args) errnoOrValue(e script.Expr) int64 {
	if n, ok := e.(*script.Name); ok {
		if v, ok := script.Errno(n.Name); ok {
			return v
		}
	}
	return a.eval(e)
}

// compareControls compares control messages; of fields, those that the script
// gives.
func (r *run) compareControls(want, got []target.Control) string {
	if len(want) != len(got) {
		return fmt.Sprintf("%d control messages came, expected %d", len(got), len(want))
	}
	for i, w := range want {
		g := got[i]
		what := fmt.Sprintf("control message %d: ", i+1)
		d := firstOf(differ(what+"level", w.Level, g.Level), differ(what+"type", w.Type, g.Type))
		for _, name := range slices.Sorted(maps.Keys(w.Fields)) {
			d = firstOf(d, differ(what+name, w.Fields[name], g.Fields[name]))
		}
		if at := g.At - r.epoch; d == "" && w.Fields == nil && (at-w.At).Abs() > r.tolerance {
			d = fmt.Sprintf("%sthe time stamp is %v, expected %v", what, at, w.At)
		}
		if d != "" {
			return d
		}
	}
	return ""
}
