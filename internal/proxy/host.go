package proxy

import (
	"context"
	"net"
	"sync"
)

// system is the Host of package net.
type system struct{}

// Dial implements Host.
func (system) Dial(ctx context.Context, addr string) (HostConn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false) // a proxy for plain TCP
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &hostConn{TCPConn: c.(*net.TCPConn)}, nil
}

// Listen implements Host.
func (system) Listen(ctx context.Context, addr string) (HostListener, error) {
	var lc net.ListenConfig
	lc.SetMultipathTCP(false)
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return hostListener{l.(*net.TCPListener)}, nil
}

// hostListener accepts connections of the host.
type hostListener struct{ *net.TCPListener }

// Accept implements HostListener.
func (l hostListener) Accept() (HostConn, error) {
	c, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return &hostConn{TCPConn: c}, nil
}

// hostConn is a connection of the host that can be reset.
type hostConn struct {
	*net.TCPConn
	abort sync.Once
}

// Abort implements relay.Conn. A socket that is closed without lingering sends
// a reset.
func (c *hostConn) Abort() {
	c.abort.Do(func() {
		_ = c.SetLinger(0)
		_ = c.Close()
	})
}

// describe says who is at the other end of a connection.
func describe(c HostConn) string {
	if a := c.RemoteAddr(); a != nil {
		return a.String()
	}
	return "somebody who is gone"
}
