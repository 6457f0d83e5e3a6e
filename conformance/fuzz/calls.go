package fuzz

import (
	"fmt"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// Parts of calls in the syntax of scripts.

var ellipsis = &script.Ellipsis{}

func name(s string) script.Expr { return &script.Name{Name: s} }

func number(n int64) script.Expr { return &script.Int{Value: n} }

// call makes a system call; result is the descriptor that it makes.
func (p *peer) call(fn string, result int64, args ...script.Expr) (target.Result, error) {
	p.burst = 0
	res, err := p.s.Call(&script.Syscall{Name: fn, Args: args, Result: number(result)})
	if u := target.IsUnsupported(err); u != nil {
		return res, err
	}
	if err != nil {
		return res, &fault{"read", err.Error()}
	}
	return res, nil
}

// applicationCall makes a call of the application, if it has what to call with.
func (p *peer) applicationCall(c *Call) error {
	a := &p.app
	if c.Kind == Accept {
		return p.accept()
	}
	if a.fd == 0 || a.closed {
		return nil
	}
	switch c.Kind {
	case Read:
		_, err := p.readOnce(c.Size)
		return err
	case Write:
		res, err := p.call("write", 0, number(a.fd), ellipsis, number(int64(c.Size)))
		a.written += int(max(res.Value, 0))
		a.noteError(string(res.Errno))
		return err
	case ShutdownRead:
		a.shutRead = true
		a.impatient = a.impatient || !p.connected()
		_, err := p.call("shutdown", 0, number(a.fd), name("SHUT_RD"))
		return err
	case ShutdownWrite:
		res, err := p.call("shutdown", 0, number(a.fd), name("SHUT_WR"))
		a.impatient = a.impatient || !p.connected()
		a.shutWr = a.shutWr || err == nil && res.Errno == ""
		return err
	case Close:
		a.closed = true
		_, err := p.call("close", 0, number(a.fd))
		return err
	case SetOption:
		return p.setOption(c)
	}
	return fmt.Errorf("a call of kind %d", c.Kind)
}

// accept takes the connection from the listener. Until there is one it takes nothing.
func (p *peer) accept() error {
	a := &p.app
	if a.listener == 0 || a.fd != 0 || !p.synAck {
		return nil
	}
	res, err := p.call("accept", 4, number(a.listener), ellipsis, ellipsis)
	if err != nil || res.Errno != "" {
		return err
	}
	a.fd = 4
	_, err = p.call("fcntl", 0, number(a.fd), name("F_SETFL"), name("O_NONBLOCK"))
	return err
}

// readOnce reads and returns how much there was.
func (p *peer) readOnce(size int) (int, error) {
	a := &p.app
	res, err := p.call("read", 0, number(a.fd), ellipsis, number(int64(size)))
	if err != nil {
		return 0, err
	}
	a.noteError(string(res.Errno))
	if res.Errno == "" && res.Value == 0 && size > 0 {
		a.eof = true
	}
	n := int(max(res.Value, 0))
	a.read += n
	return n, nil
}

// noteError keeps the first error that says that the connection has ended.
func (a *app) noteError(errno string) {
	switch errno {
	case "", "EAGAIN", "ENOTCONN":
		return
	}
	if errno == "EPIPE" && a.shutWr || a.errno != "" {
		return
	}
	a.errno = errno
}

// setOption sets a socket option; one that the target does not have is left out.
func (p *peer) setOption(c *Call) error {
	a := &p.app
	value := script.Expr(&script.List{Elems: []script.Expr{number(int64(c.Value))}})
	size := int64(4)
	switch c.Name {
	case "SO_LINGER":
		a.impatient = true
		size = 8
		value = &script.Struct{Fields: []script.Field{{Name: "onoff", Value: number(1)}, {Name: "linger", Value: number(0)}}}
	case "TCP_USER_TIMEOUT", "SO_KEEPALIVE", "TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_SYNCNT", "TCP_LINGER2":
		a.impatient = true
	case "TCP_CONGESTION":
		return nil
	}
	fd := a.fd
	if fd == 0 {
		fd = a.listener
	}
	_, err := p.call("setsockopt", 0, number(fd), name(c.Level), name(c.Name), value, number(size))
	if target.IsUnsupported(err) != nil {
		return nil
	}
	return err
}
