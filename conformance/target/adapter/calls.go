package adapter

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/plumbline/plumbline/conformance/target"
)

// callArgs are the arguments of all calls. Each has some of them.
type callArgs struct {
	FD       target.FD      `json:"fd"`
	IPv6     bool           `json:"ipv6,omitempty"`
	Nonblock bool           `json:"nonblock,omitempty"`
	Addr     netip.AddrPort `json:"addr,omitzero"`
	Backlog  int            `json:"backlog,omitempty"`
	Max      int            `json:"max,omitempty"`
	Flags    uint32         `json:"flags,omitempty"`
	Data     octets         `json:"data,omitempty"`
	Read     bool           `json:"read,omitempty"`
	Write    bool           `json:"write,omitempty"`
	Level    string         `json:"level,omitempty"`
	Name     string         `json:"name,omitempty"`
	Value    *optionValue   `json:"value,omitempty"`
	Peer     bool           `json:"peer,omitempty"`
	Queue    string         `json:"queue,omitempty"`
	FDs      []ready        `json:"fds,omitempty"`
	Op       string         `json:"op,omitempty"`
	// Timeout is in nanoseconds, -1 for ever.
	Timeout int64 `json:"timeout_ns,omitempty"`
}

// The words for the numbers of target.Queue and target.EpollOp.
var (
	queues   = map[target.Queue]string{target.RecvQueue: "recv", target.SendQueue: "send", target.UnsentQueue: "unsent", target.AtMark: "at_mark"}
	epollOps = map[target.EpollOp]string{target.EpollAdd: "add", target.EpollDel: "del", target.EpollMod: "mod"}
)

// keyOf returns the key of a value.
func keyOf[K comparable](m map[K]string, v string) (K, error) {
	for k, have := range m {
		if have == v {
			return k, nil
		}
	}
	var none K
	return none, fmt.Errorf("%q is none of the words for a %T", v, none)
}

// errUnmapped is the answer to a buffer at an address that is not mapped: another
// process has addresses of its own.
var errUnmapped = target.Unsupportedf("a buffer at an address that is not mapped")

// encodeCall returns the name of a call and its arguments.
func encodeCall(call target.Call) (string, *callArgs, error) {
	switch c := call.(type) {
	case target.Read:
		if c.Unmapped {
			return "", nil, errUnmapped
		}
	case target.Write:
		if c.Unmapped {
			return "", nil, errUnmapped
		}
	}
	switch c := call.(type) {
	case target.Socket:
		return "socket", &callArgs{IPv6: c.IPv6, Nonblock: c.Nonblock}, nil
	case target.Bind:
		return "bind", &callArgs{FD: c.FD, Addr: c.Addr}, nil
	case target.Listen:
		return "listen", &callArgs{FD: c.FD, Backlog: c.Backlog}, nil
	case target.Accept:
		return "accept", &callArgs{FD: c.FD, Nonblock: c.Nonblock}, nil
	case target.Connect:
		return "connect", &callArgs{FD: c.FD, Addr: c.Addr}, nil
	case target.Read:
		return "read", &callArgs{FD: c.FD, Max: c.Max, Flags: uint32(c.Flags)}, nil
	case target.Write:
		if c.NoFamily {
			return "", nil, target.Unsupportedf("an address of no family")
		}
		return "write", &callArgs{FD: c.FD, Data: c.Data, Flags: uint32(c.Flags), Addr: c.To}, nil
	case target.Shutdown:
		return "shutdown", &callArgs{FD: c.FD, Read: c.Read, Write: c.Write}, nil
	case target.Close:
		return "close", &callArgs{FD: c.FD}, nil
	case target.SetOption:
		return "setsockopt", &callArgs{FD: c.FD, Level: c.Level, Name: c.Name, Value: &optionValue{c.Value}}, nil
	case target.GetOption:
		return "getsockopt", &callArgs{FD: c.FD, Level: c.Level, Name: c.Name}, nil
	case target.SetNonblock:
		return "set_nonblock", &callArgs{FD: c.FD, Nonblock: c.On}, nil
	case target.GetFlags:
		return "get_flags", &callArgs{FD: c.FD}, nil
	case target.GetName:
		return "get_name", &callArgs{FD: c.FD, Peer: c.Peer}, nil
	case target.QueueSize:
		return "queue_size", &callArgs{FD: c.FD, Queue: queues[c.Queue]}, nil
	case target.Poll:
		return "poll", &callArgs{FDs: readyOf(c.FDs), Timeout: int64(max(c.Timeout, -1))}, nil
	case target.EpollCreate:
		return "epoll_create", &callArgs{}, nil
	case target.EpollCtl:
		return "epoll_ctl", &callArgs{FD: c.FD, Op: epollOps[c.Op], FDs: readyOf([]target.Ready{c.Target})}, nil
	case target.EpollWait:
		return "epoll_wait", &callArgs{FD: c.FD, Max: c.Max, Timeout: int64(max(c.Timeout, -1))}, nil
	}
	return "", nil, target.Unsupportedf("system call %v, for which the protocol has no word", call)
}

// decodeCall is the inverse of encodeCall.
func decodeCall(name string, a *callArgs) (target.Call, error) {
	if a == nil {
		a = &callArgs{}
	}
	var fds []target.Ready
	for _, x := range a.FDs {
		fds = append(fds, target.Ready(x))
	}
	switch name {
	case "socket":
		return target.Socket{IPv6: a.IPv6, Nonblock: a.Nonblock}, nil
	case "bind":
		return target.Bind{FD: a.FD, Addr: a.Addr}, nil
	case "listen":
		return target.Listen{FD: a.FD, Backlog: a.Backlog}, nil
	case "accept":
		return target.Accept{FD: a.FD, Nonblock: a.Nonblock}, nil
	case "connect":
		return target.Connect{FD: a.FD, Addr: a.Addr}, nil
	case "read":
		return target.Read{FD: a.FD, Max: a.Max, Flags: target.MsgFlags(a.Flags)}, nil
	case "write":
		return target.Write{FD: a.FD, Data: a.Data, Flags: target.MsgFlags(a.Flags), To: a.Addr}, nil
	case "shutdown":
		return target.Shutdown{FD: a.FD, Read: a.Read, Write: a.Write}, nil
	case "close":
		return target.Close{FD: a.FD}, nil
	case "setsockopt":
		if a.Value == nil {
			return nil, fmt.Errorf("setsockopt without a value")
		}
		return target.SetOption{FD: a.FD, Level: a.Level, Name: a.Name, Value: a.Value.v}, nil
	case "getsockopt":
		return target.GetOption{FD: a.FD, Level: a.Level, Name: a.Name}, nil
	case "set_nonblock":
		return target.SetNonblock{FD: a.FD, On: a.Nonblock}, nil
	case "get_flags":
		return target.GetFlags{FD: a.FD}, nil
	case "get_name":
		return target.GetName{FD: a.FD, Peer: a.Peer}, nil
	case "queue_size":
		q, err := keyOf(queues, a.Queue)
		return target.QueueSize{FD: a.FD, Queue: q}, err
	case "poll":
		return target.Poll{FDs: fds, Timeout: time.Duration(a.Timeout)}, nil
	case "epoll_create":
		return target.EpollCreate{}, nil
	case "epoll_ctl":
		op, err := keyOf(epollOps, a.Op)
		if err == nil && len(fds) != 1 {
			err = fmt.Errorf("epoll_ctl with %d descriptors", len(fds))
		}
		if err != nil {
			return nil, err
		}
		return target.EpollCtl{FD: a.FD, Op: op, Target: fds[0]}, nil
	case "epoll_wait":
		return target.EpollWait{FD: a.FD, Max: a.Max, Timeout: time.Duration(a.Timeout)}, nil
	}
	return nil, target.Unsupportedf("system call %s", clean(name))
}
