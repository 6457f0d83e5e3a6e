package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/linkendpoints/tap"
)

// host is a netstack on a TUN device with a table of its sockets.
type host struct {
	stack   *stack.Stack
	sockets map[int]*socket
	next    int
}

// socket is one socket.
type socket struct {
	ep       tcpip.Endpoint
	ipv6     bool
	nonblock bool
}

// open makes a host on the device.
func open(device string, mtu uint32, local4, local6 netip.Addr) (*host, error) {
	// Standard output belongs to the protocol, and scripts send packets on
	// purpose that gVisor complains about.
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	link, err := tap.New(tap.Options{Name: device, Mode: tap.TUN, MTU: mtu, NoOffload: true})
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", device, err)
	}
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, ipv6.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol},
	})
	sack, nagle := tcpip.TCPSACKEnabled(true), tcpip.TCPDelayEnabled(true)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &sack)
	s.SetTransportProtocolOption(tcp.ProtocolNumber, &nagle)
	if err := s.CreateNIC(1, link); err != nil {
		return nil, fmt.Errorf("interface: %v", err)
	}
	for _, a := range []struct {
		proto tcpip.NetworkProtocolNumber
		addr  netip.Addr
		bits  int
	}{{ipv4.ProtocolNumber, local4, 16}, {ipv6.ProtocolNumber, local6, 64}} {
		pa := tcpip.ProtocolAddress{
			Protocol:          a.proto,
			AddressWithPrefix: tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(a.addr.AsSlice()), PrefixLen: a.bits},
		}
		if err := s.AddProtocolAddress(1, pa, stack.AddressProperties{}); err != nil {
			return nil, fmt.Errorf("address %v: %v", a.addr, err)
		}
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}, {Destination: header.IPv6EmptySubnet, NIC: 1}})
	return &host{stack: s, sockets: make(map[int]*socket), next: 3}, nil
}

// start returns what tries a call until it ends, or nil if there is no such
// call here.
func (h *host) start(name string, a args) func() (result, bool) {
	if name == "socket" {
		return now(h.socket(a))
	}
	s := h.sockets[a.FD]
	if s == nil {
		return now(result{Value: -1, Errno: "EBADF"})
	}
	switch name {
	case "set_nonblock":
		s.nonblock = a.Nonblock
		return now(result{})
	case "bind":
		return now(outcome(s.ep.Bind(address(a.Addr))))
	case "listen":
		return now(outcome(s.ep.Listen(max(a.Backlog, 1))))
	case "accept":
		return func() (result, bool) { return h.accept(s, a) }
	case "connect":
		return h.connect(s, a)
	case "shutdown":
		var how tcpip.ShutdownFlags
		if a.Read {
			how |= tcpip.ShutdownRead
		}
		if a.Write {
			how |= tcpip.ShutdownWrite
		}
		return now(outcome(s.ep.Shutdown(how)))
	case "close":
		delete(h.sockets, a.FD)
		s.ep.Close()
		return now(result{})
	}
	if strings.HasSuffix(name, "sockopt") {
		return s.option(name, a)
	}
	if a.Flags != 0 {
		return nil
	}
	switch name {
	case "read":
		return func() (result, bool) { return read(s, a.Max) }
	case "write":
		data := octets(a.Data)
		sent := 0
		return func() (result, bool) { return write(s, data, &sent) }
	}
	return nil
}

// option is setsockopt or getsockopt, for the options that most scripts use.
func (s *socket) option(call string, a args) func() (result, bool) {
	var on int
	settable := call == "setsockopt" && json.Unmarshal(a.Value, &on) == nil
	switch {
	case a.Name == "SO_REUSEADDR" && settable:
		s.ep.SocketOptions().SetReuseAddress(on != 0)
	case a.Name == "SO_KEEPALIVE" && settable:
		s.ep.SocketOptions().SetKeepAlive(on != 0)
	case a.Name == "TCP_NODELAY" && settable:
		s.ep.SocketOptions().SetDelayOption(on == 0)
	case a.Name == "SO_ERROR" && call == "getsockopt":
		return now(result{Option: map[string]string{"errno": outcome(s.ep.LastError()).Errno}})
	default:
		return nil
	}
	return now(result{})
}

// now is a call that ends at once.
func now(r result) func() (result, bool) {
	return func() (result, bool) { return r, true }
}

// add files a socket.
func (h *host) add(s *socket) int {
	fd := h.next
	for h.sockets[fd] != nil {
		fd++
	}
	h.sockets[fd] = s
	return fd
}

func (h *host) socket(a args) result {
	proto := ipv4.ProtocolNumber
	if a.IPv6 {
		proto = ipv6.ProtocolNumber
	}
	ep, err := h.stack.NewEndpoint(tcp.ProtocolNumber, proto, &waiter.Queue{})
	if err != nil {
		return outcome(err)
	}
	return result{Value: h.add(&socket{ep: ep, ipv6: a.IPv6, nonblock: a.Nonblock})}
}

func (h *host) accept(s *socket, a args) (result, bool) {
	var peer tcpip.FullAddress
	ep, _, err := s.ep.Accept(&peer)
	if err != nil {
		return outcome(err), s.ends(err)
	}
	fd := h.add(&socket{ep: ep, ipv6: s.ipv6, nonblock: a.Nonblock})
	from, _ := netip.AddrFromSlice(peer.Addr.AsSlice())
	return result{Value: fd, Addr: netip.AddrPortFrom(from, peer.Port).String()}, true
}

// connect begins, and then asks for the outcome when the socket is writable.
func (h *host) connect(s *socket, a args) func() (result, bool) {
	err := s.ep.Connect(address(a.Addr))
	if _, started := err.(*tcpip.ErrConnectStarted); !started || s.nonblock {
		return now(outcome(err))
	}
	return func() (result, bool) {
		if s.ep.Readiness(waiter.WritableEvents) == 0 {
			return result{}, false
		}
		return outcome(s.ep.Connect(address(a.Addr))), true
	}
}

func read(s *socket, most int) (result, bool) {
	var b bytes.Buffer
	w := tcpip.LimitedWriter{W: &b, N: int64(most)}
	_, err := s.ep.Read(&w, tcpip.ReadOptions{})
	if _, eof := err.(*tcpip.ErrClosedForReceive); eof {
		return result{}, true
	}
	if err != nil {
		return outcome(err), s.ends(err)
	}
	return result{Value: b.Len(), Data: hex.EncodeToString(b.Bytes())}, true
}

func write(s *socket, data []byte, sent *int) (result, bool) {
	for {
		n, err := s.ep.Write(bytes.NewReader(data[*sent:]), tcpip.WriteOptions{})
		*sent += int(n)
		switch {
		case *sent == len(data):
			return result{Value: *sent}, true
		case err == nil:
			continue
		case !s.ends(err):
			return result{}, false
		case *sent > 0:
			return result{Value: *sent}, true
		}
		return outcome(err), true
	}
}

// ends reports whether a call ends with an error, in place of waiting.
func (s *socket) ends(err tcpip.Error) bool {
	_, blocks := err.(*tcpip.ErrWouldBlock)
	return s.nonblock || !blocks
}

// address converts an address; the unspecified one has no length.
func address(a netip.AddrPort) tcpip.FullAddress {
	full := tcpip.FullAddress{Port: a.Port()}
	if a.Addr().IsValid() && !a.Addr().IsUnspecified() {
		full.Addr = tcpip.AddrFromSlice(a.Addr().AsSlice())
	}
	return full
}

// outcome is the result of a call that returns 0 or an error.
func outcome(err tcpip.Error) result {
	if err == nil {
		return result{}
	}
	r := result{Value: -1}
	switch err.(type) {
	case *tcpip.ErrWouldBlock:
		r.Errno = "EAGAIN"
	case *tcpip.ErrConnectStarted:
		r.Errno = "EINPROGRESS"
	case *tcpip.ErrAlreadyConnecting:
		r.Errno = "EALREADY"
	case *tcpip.ErrAlreadyConnected:
		r.Errno = "EISCONN"
	case *tcpip.ErrNotConnected:
		r.Errno = "ENOTCONN"
	case *tcpip.ErrConnectionRefused:
		r.Errno = "ECONNREFUSED"
	case *tcpip.ErrConnectionReset:
		r.Errno = "ECONNRESET"
	case *tcpip.ErrAborted, *tcpip.ErrClosedForSend:
		r.Errno = "EPIPE"
	case *tcpip.ErrTimeout:
		r.Errno = "ETIMEDOUT"
	case *tcpip.ErrPortInUse:
		r.Errno = "EADDRINUSE"
	default:
		r.Errno = "EINVAL"
	}
	return r
}
