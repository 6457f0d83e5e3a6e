// Tunadapter is a stack that runs on a TUN device, as plumbline conform tests it:
//
//	go build -o tunadapter ./examples/tunadapter
//	sudo plumbline conform --target tun:./tunadapter --tolerance 20ms
//
// It speaks the protocol of docs/adapter.md with nothing but encoding/json, as an
// adapter in another language would: five requests, and a dozen system calls of a
// stack that goes on by itself meanwhile. The stack is gVisor's netstack with its
// own TCP, in real time (host_linux.go).
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// request is what comes in, as far as this adapter understands it.
type request struct {
	Op     string
	Config struct {
		MTU            uint32
		Local4, Local6 netip.Addr
	}
	ID   int64
	Call string
	Args args
}

// args are the arguments of a call.
type args struct {
	FD       int
	IPv6     bool
	Nonblock bool
	Addr     netip.AddrPort
	Backlog  int
	Max      int
	Flags    uint32
	Data     string // in hexadecimal
	Read     bool
	Write    bool
	Name     string          // of a socket option
	Value    json.RawMessage // of the option
}

// reply is what goes out.
type reply struct {
	Hello       any      `json:"hello,omitempty"`
	Done        []result `json:"done,omitempty"`
	Unsupported string   `json:"unsupported,omitempty"`
	Error       string   `json:"error,omitempty"`
}

// result is the outcome of a call.
type result struct {
	ID    int64  `json:"id"`
	Value int    `json:"value"`
	Errno string `json:"errno,omitempty"`
	Data  string `json:"data,omitempty"`
	Addr  string `json:"addr,omitempty"`
	// Option is the value of a socket option.
	Option any `json:"option,omitempty"`
}

// call is one that is under way. It is tried again at each request until it ends.
type call struct {
	id  int64
	try func() (result, bool)
}

func main() {
	var h *host
	var waiting []call
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 32<<20)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var req request
		var rep reply
		err := json.Unmarshal(in.Bytes(), &req)
		switch {
		case err != nil:
		case req.Op == "hello":
			rep.Hello = map[string]any{"protocol": 1, "name": "tunadapter", "description": "gVisor's TCP on a TUN device"}
		case req.Op == "open":
			h, err = open(os.Getenv("PLUMBLINE_TUN"), req.Config.MTU, req.Config.Local4, req.Config.Local6)
		case req.Op == "close" || req.Op == "settle":
			// The process ends with its host, and there is nothing to do that
			// does not happen by itself.
		case req.Op == "call" && h != nil:
			if try := h.start(req.Call, req.Args); try != nil {
				waiting = append(waiting, call{req.ID, try})
			} else {
				rep.Unsupported = strings.TrimSpace("the call " + req.Call + " " + req.Args.Name)
			}
		default:
			rep.Unsupported = req.Op
		}
		if err != nil {
			rep.Error = err.Error()
		}
		still := waiting[:0]
		for _, c := range waiting {
			if r, ended := c.try(); ended {
				r.ID = c.id
				rep.Done = append(rep.Done, r)
			} else {
				still = append(still, c)
			}
		}
		waiting = still
		if err := out.Encode(rep); err != nil {
			fmt.Fprintln(os.Stderr, "tunadapter:", err)
			os.Exit(1)
		}
	}
}

// octets reads what is in hexadecimal.
func octets(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		fmt.Fprintln(os.Stderr, "tunadapter: data:", err)
	}
	return b
}
