package runner

import (
	"fmt"
	"time"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// levelNames are the other names of the levels of socket options.
var levelNames = map[string]string{
	"SOL_TCP": "IPPROTO_TCP", "SOL_IP": "IPPROTO_IP", "SOL_IPV6": "IPPROTO_IPV6", "IPPROTO_SOCKET": "SOL_SOCKET",
}

// ipv6Names translate options of IPv4 for a run over IPv6, so that one script
// serves both.
var ipv6Names = map[string]string{
	"IP_TOS": "IPV6_TCLASS", "IP_TTL": "IPV6_UNICAST_HOPS", "IP_MTU_DISCOVER": "IPV6_MTU_DISCOVER",
}

// optionName returns the level and the name of the option in arguments 1 and
// 2.
func (a *args) optionName() (level, name string) {
	level, name = a.name(1), a.name(2)
	if l, ok := levelNames[level]; ok {
		level = l
	}
	if n, ok := ipv6Names[name]; ok && a.run.v6 && level == "IPPROTO_IP" {
		level, name = "IPPROTO_IPV6", n
	}
	return level, name
}

func (a *args) setsockopt() prepared {
	level, name := a.optionName()
	return prepared{call: target.SetOption{FD: a.file(0).live, Level: level, Name: name, Value: a.optionValue(a.at(3))}}
}

// optionValue reads a value for setsockopt.
func (a *args) optionValue(e script.Expr) any {
	if l, ok := e.(*script.List); ok && len(l.Elems) == 1 {
		e = l.Elems[0]
	}
	switch e := e.(type) {
	case *script.Str:
		return e.Value
	case *script.Struct:
		return a.structValue(e)
	case nil:
		a.fail("the value is missing")
		return 0
	default:
		return int(int32(a.eval(e)))
	}
}

// structValue reads a struct linger or timeval.
func (a *args) structValue(s *script.Struct) any {
	on, linger := firstField(s, "onoff", "l_onoff"), firstField(s, "linger", "l_linger")
	sec, usec := s.Field("tv_sec"), s.Field("tv_usec")
	switch {
	case on != nil && linger != nil:
		return target.Linger{On: a.eval(on) != 0, Seconds: int(a.eval(linger))}
	case sec != nil && usec != nil:
		return time.Duration(a.eval(sec))*time.Second + time.Duration(a.eval(usec))*time.Microsecond
	}
	a.fail("the value %v", s)
	return 0
}

// firstField returns the first field that is there.
func firstField(s *script.Struct, names ...string) script.Expr {
	for _, n := range names {
		if e := s.Field(n); e != nil {
			return e
		}
	}
	return nil
}

func (a *args) getsockopt() prepared {
	level, name := a.optionName()
	want := a.at(3)
	return prepared{
		call: target.GetOption{FD: a.file(0).live, Level: level, Name: name},
		after: func(res target.Result) string {
			if name == "SO_RCVBUF" && a.run.opt.Ignore.has(IgnoreWindows) {
				return ""
			}
			if d := compareValue(want, res.Option); d != "" {
				return name + " " + d
			}
			return ""
		},
	}
}

// compareValue compares a value that a call filled in with that of the script,
// or returns "".
func compareValue(want script.Expr, got any) string {
	if l, ok := want.(*script.List); ok && len(l.Elems) == 1 {
		want = l.Elems[0]
	}
	switch w := want.(type) {
	case nil, *script.Ellipsis:
		return ""
	case *script.Str:
		return differ("value", any(w.Value), got)
	case *script.Struct:
		return compareStruct(w, got)
	}
	n, err := script.Eval(want)
	if err != nil {
		return err.Error()
	}
	switch g := got.(type) {
	case int:
		return differ("value", int32(n), int32(g))
	case target.Errno:
		if have, _ := script.Errno(string(g)); have != n {
			return fmt.Sprintf("value is %s, expected %s", orSuccess(string(g)), errnoName(n))
		}
		return ""
	}
	return fmt.Sprintf("value is %v, expected %d", got, n)
}

// errnoName returns the name of an error number, or "success".
func errnoName(n int64) string {
	if n == 0 {
		return "success"
	}
	return script.ErrnoName(n)
}

// compareStruct compares a struct linger or timeval.
func compareStruct(want *script.Struct, got any) string {
	a := &args{call: &script.Syscall{Name: "getsockopt"}}
	w := a.structValue(want)
	if a.err != nil {
		return a.err.Error()
	}
	return differ("value", w, got)
}
