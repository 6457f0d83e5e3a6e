package adapter

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/plumbline/plumbline/conformance/target"
)

// Serve speaks the protocol for a kind of target, one instance at a time, until
// r ends, for which it returns nil. It is the whole main function of an adapter
// in Go, with standard input and output:
//
//	err := adapter.Serve(os.Stdin, os.Stdout, kind)
func Serve(r io.Reader, w io.Writer, kind target.Kind) error {
	s := &server{kind: kind, pending: make(map[int64]target.Pending)}
	defer s.close()
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	out := bufio.NewWriter(w)
	for in.Scan() {
		var req request
		var rep reply
		if err := json.Unmarshal(in.Bytes(), &req); err != nil {
			rep.Error = "not a request: " + err.Error()
		} else {
			s.answer(&req, &rep)
		}
		line, err := json.Marshal(&rep)
		if err != nil {
			return err
		}
		out.Write(line)
		out.WriteByte('\n')
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return in.Err()
}

// server is the state of Serve.
type server struct {
	kind target.Kind
	// target is the instance that is open, or nil.
	target target.Target
	// pending are the calls that block, and order their IDs, oldest first.
	pending map[int64]target.Pending
	order   []int64
}

// close closes the instance, if there is one.
func (s *server) close() {
	if s.target != nil {
		s.target.Close()
	}
	s.target, s.order = nil, nil
	clear(s.pending)
}

// answer does what a request asks for.
func (s *server) answer(req *request, rep *reply) {
	err := s.do(req, rep)
	var u *target.UnsupportedError
	switch {
	case errors.As(err, &u):
		rep.Unsupported = u.Error()
	case err != nil:
		rep.Error = err.Error()
	}
	if s.target == nil {
		return
	}
	rep.Now = int64(s.target.Now())
	for _, p := range s.target.Drain() {
		rep.Packets = append(rep.Packets, packet{At: int64(p.At), Data: p.Data})
	}
	waiting := s.order[:0]
	for _, id := range s.order {
		res, ok := s.pending[id].Result()
		if !ok {
			waiting = append(waiting, id)
			continue
		}
		delete(s.pending, id)
		rep.Done = append(rep.Done, resultOf(id, res))
	}
	s.order = waiting
}

// do does what a request asks for, but for what every reply has.
func (s *server) do(req *request, rep *reply) error {
	switch req.Op {
	case "hello":
		rep.Hello = helloOf(s.kind)
		return nil
	case "open":
		if req.Open == nil {
			return errors.New("open without a config")
		}
		s.close()
		t, err := s.kind.Open(req.Open.config())
		s.target = t
		return err
	case "close":
		s.close()
		return nil
	}
	if s.target == nil {
		return fmt.Errorf("%q without an open instance", clean(req.Op))
	}
	switch req.Op {
	case "configure":
		return s.target.Configure(req.Name, req.Value)
	case "call":
		return s.call(req)
	case "inject":
		return s.target.Inject(req.Packet)
	case "run":
		s.target.RunUntil(s.target.Now() + time.Duration(max(req.For, 0)))
		return nil
	case "settle":
		s.target.Settle()
		return nil
	case "info":
		info, err := s.target.Info(req.FD)
		rep.Info = info
		return err
	}
	return fmt.Errorf("unknown op %q", clean(req.Op))
}

// call starts a system call.
func (s *server) call(req *request) error {
	c, err := decodeCall(req.Call, req.Args)
	if err != nil {
		return err
	}
	if s.pending[req.ID] != nil {
		return fmt.Errorf("call %d is under way already", req.ID)
	}
	p, err := s.target.Syscall(c)
	if err != nil {
		return err
	}
	s.pending[req.ID] = p
	s.order = append(s.order, req.ID)
	return nil
}
