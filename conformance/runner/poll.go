package runner

import (
	"fmt"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

func (a *args) poll() prepared {
	l, ok := a.at(0).(*script.List)
	if !ok {
		a.fail("the list of descriptors is missing")
		return prepared{}
	}
	var call target.Poll
	var want []uint32
	for _, e := range l.Elems {
		s, ok := e.(*script.Struct)
		if !ok || s.Field("fd") == nil || s.Field("events") == nil {
			a.fail("%v is no struct pollfd", e)
			return prepared{}
		}
		call.FDs = append(call.FDs, target.Ready{FD: a.fdOf(a.eval(s.Field("fd"))), Events: uint32(a.eval(s.Field("events")))})
		revents := uint32(0)
		if e := s.Field("revents"); e != nil {
			revents = uint32(a.eval(e))
		}
		want = append(want, revents)
	}
	call.Timeout = milliseconds(a.integer(2))
	return prepared{call: call, after: func(res target.Result) string {
		for i := range want {
			if res.Ready[i].Events != want[i] {
				return fmt.Sprintf("revents of entry %d are %#x, expected %#x", i, res.Ready[i].Events, want[i])
			}
		}
		return ""
	}}
}

func (a *args) epollCreate() prepared {
	n, ok := a.resultFD()
	r := a.run
	return prepared{
		call:    target.EpollCreate{},
		makesFD: true,
		after:   func(res target.Result) string { return r.open(n, ok, &file{live: target.FD(res.Value)}) },
	}
}

// epollEvent reads a struct epoll_event.
func (a *args) epollEvent(e script.Expr) (events uint32, data int64) {
	s, ok := e.(*script.Struct)
	if !ok {
		return 0, 0
	}
	if e := s.Field("events"); e != nil {
		events = uint32(a.eval(e))
	}
	if e := firstField(s, "fd", "u32", "u64", "ptr"); e != nil {
		data = a.eval(e)
	}
	return events, data
}

func (a *args) epollCtl() prepared {
	op := a.integer(1)
	events, data := a.epollEvent(a.at(3))
	return prepared{call: target.EpollCtl{
		FD:     a.file(0).live,
		Op:     target.EpollOp(op),
		Target: target.Ready{FD: a.fdOf(a.integer(2)), Events: events, Data: data},
	}}
}

func (a *args) epollWait() prepared {
	want := a.at(1)
	if l, ok := want.(*script.List); ok && len(l.Elems) == 1 {
		want = l.Elems[0]
	}
	events, data := a.epollEvent(want)
	_, check := want.(*script.Struct)
	return prepared{
		call: target.EpollWait{FD: a.file(0).live, Max: int(a.integer(2)), Timeout: milliseconds(a.integer(3))},
		after: func(res target.Result) string {
			if !check || len(res.Ready) == 0 {
				return ""
			}
			got := res.Ready[0]
			return firstOf(
				differ("events", fmt.Sprintf("%#x", events), fmt.Sprintf("%#x", got.Events)),
				differ("data", data, got.Data),
			)
		},
	}
}
