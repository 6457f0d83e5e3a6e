package tcpx

import (
	"runtime"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// forward makes b take connections to any address.
func (h *host) forward(f func(stack.TransportEndpointID, *stack.PacketBuffer) bool) {
	h.stack.SetTransportProtocolHandler(ProtocolNumber, f)
	h.stack.SetPromiscuousMode(1, true)
	h.stack.SetSpoofing(1, true)
}

var elsewhere = tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{192, 0, 2, 7}), Port: 443}

func TestForwarder(t *testing.T) {
	w := newWorldWith(t, 1500, false)
	requests := make(chan *ForwarderRequest, 10)
	f := NewForwarder(w.b.stack, 30000, 2, func(r *ForwarderRequest) { requests <- r })
	w.b.forward(f.HandlePacket)
	c := w.a.dial(elsewhere)
	r := <-requests
	if id := r.ID(); id.LocalAddress != elsewhere.Addr || id.LocalPort != 443 || id.RemoteAddress != w.a.v4 {
		t.Errorf("ID %+v", id)
	}
	if _, ok := r.ForwardedPacketExperimentOption(); ok {
		t.Error("an experiment option out of nowhere")
	}
	w.run(1500 * time.Millisecond) // A second SYN is for the same request.
	if n := len(requests); n != 0 {
		t.Errorf("%d more requests", n)
	}
	q := new(waiter.Queue)
	e, err := r.CreateEndpoint(q)
	if err != nil {
		t.Fatal(err)
	}
	s := newSocket(t, e, q)
	if got := s.ops.GetReceiveBufferSize(); got != 30000 {
		t.Errorf("receive buffer %d", got)
	}
	s.want(s.Connect(elsewhere), &tcpip.ErrAlreadyConnected{})
	r.Complete(false)
	if _, err := r.CreateEndpoint(q); err == nil {
		t.Error("a completed request makes an endpoint")
	}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("completing twice does not panic")
			}
		}()
		r.Complete(false)
	}()
	c.state(tcp.StateEstablished)
	c.write("hello")
	s.wantRead("hello")

	refused := w.a.dial(elsewhere)
	(<-requests).Complete(true)
	refused.want(refused.LastError(), &tcpip.ErrConnectionRefused{})
	for _, x := range []*socket{c, s, refused} {
		x.Close()
	}
	w.run(5 * time.Minute)
	if n := f.core.inFlight(); n != 0 {
		t.Errorf("%d requests in flight", n)
	}
}

func TestForwarderLimit(t *testing.T) {
	w := newWorldWith(t, 1500, false)
	requests := make(chan *ForwarderRequest, 10)
	f := NewForwarder(w.b.stack, 0, 1, func(r *ForwarderRequest) { requests <- r })
	w.b.forward(f.HandlePacket)
	c, d := w.a.dial(elsewhere), w.a.dial(elsewhere)
	if n := w.b.stack.Stats().TCP.ForwardMaxInFlightDrop.Value(); n != 1 {
		t.Errorf("%d drops", n)
	}
	(<-requests).Complete(true)
	w.run(1500 * time.Millisecond) // d's next SYN
	(<-requests).Complete(true)
	c.want(c.LastError(), &tcpip.ErrConnectionRefused{})
	d.want(d.LastError(), &tcpip.ErrConnectionRefused{})
	c.Close()
	d.Close()
}

// A handler that forgets its request does not take a place for ever.
func TestForwarderForgotten(t *testing.T) {
	w := newWorldWith(t, 1500, false)
	done := make(chan struct{})
	f := NewForwarder(w.b.stack, 0, 1, func(*ForwarderRequest) { close(done) })
	w.b.forward(f.HandlePacket)
	c := w.a.dial(elsewhere)
	<-done
	for f.core.inFlight() > 0 {
		runtime.GC()
		runtime.Gosched()
	}
	c.Close()
}

func TestForwarderHandshakeFails(t *testing.T) {
	w := newWorldWith(t, 1500, false)
	result := make(chan tcpip.Error)
	f := NewForwarder(w.b.stack, 0, 1, func(r *ForwarderRequest) {
		_, err := r.CreateEndpoint(new(waiter.Queue))
		r.Complete(err != nil)
		result <- err
	})
	w.b.forward(f.HandlePacket)
	w.a.wire.pass = isSYN // No final ACK.
	c := w.a.socket(0x800)
	c.want(c.Connect(elsewhere), &tcpip.ErrConnectStarted{})
	for {
		w.run(time.Second)
		select {
		case err := <-result:
			if err == nil {
				t.Error("the handshake succeeded")
			}
			c.Abort()
			c.Close()
			if n := len(w.b.stack.RegisteredEndpoints()); n != 0 {
				t.Errorf("%d endpoints left", n)
			}
			return
		default:
			runtime.Gosched()
		}
	}
}

// asyncWorld has an asynchronous forwarder on b whose decisions the test makes.
func asyncWorld(t *testing.T, opts AsyncForwarderOptions) (*world, *AsyncForwarder, chan *AsyncRequest) {
	w := newWorldWith(t, 1500, false)
	requests := make(chan *AsyncRequest, 10)
	if opts.Decide == nil {
		opts.Decide = func(r *AsyncRequest) { requests <- r }
	}
	f := NewAsyncForwarder(w.b.stack, opts)
	w.b.forward(f.HandlePacket)
	return w, f, requests
}

func TestAsyncForwarder(t *testing.T) {
	w, f, requests := asyncWorld(t, AsyncForwarderOptions{})
	c := w.a.dial(elsewhere)
	r := <-requests
	c.state(tcp.StateSynSent) // Nothing is promised before the decision.
	q := new(waiter.Queue)
	e, err := r.Accept(q)
	if err != nil {
		t.Fatal(err)
	}
	s := newSocket(t, e, q)
	c.state(tcp.StateEstablished)
	s.write("hello")
	c.wantRead("hello")
	if r.Context().Err() == nil {
		t.Error("the context is not done after the decision")
	}
	if _, err := r.Accept(q); err == nil {
		t.Error("accepted twice")
	}
	r.Reject()
	c.state(tcp.StateEstablished)

	d := w.a.dial(elsewhere)
	(<-requests).Reject()
	d.want(d.LastError(), &tcpip.ErrConnectionRefused{})
	if n := f.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
	for _, x := range []*socket{c, s, d} {
		x.Close()
	}
	w.run(5 * time.Minute)
}

func TestAsyncForwarderTimeLimit(t *testing.T) {
	for _, silent := range []bool{false, true} {
		w, f, requests := asyncWorld(t, AsyncForwarderOptions{TimeLimit: 2 * time.Second, Silent: silent})
		c := w.a.dial(elsewhere)
		r := <-requests
		w.run(1900 * time.Millisecond)
		c.state(tcp.StateSynSent)
		w.run(200 * time.Millisecond)
		if n := f.InFlight(); n != 0 {
			t.Errorf("silent %v: %d in flight", silent, n)
		}
		if r.Context().Err() == nil {
			t.Error("the context is not done")
		}
		if _, err := r.Accept(new(waiter.Queue)); err == nil {
			t.Error("accepted too late")
		}
		if silent {
			c.state(tcp.StateSynSent)
		} else {
			c.want(c.LastError(), &tcpip.ErrConnectionRefused{})
		}
		c.Close()
	}
}

func TestAsyncForwarderPerDestination(t *testing.T) {
	w, f, requests := asyncWorld(t, AsyncForwarderOptions{MaxInFlight: 3, MaxPerDestination: 2})
	other := elsewhere
	other.Port++
	var c []*socket
	for _, to := range []tcpip.FullAddress{elsewhere, elsewhere, elsewhere, other, other} {
		c = append(c, w.a.dial(to))
	}
	if n := f.InFlight(); n != 3 {
		t.Errorf("%d in flight, want 2 and 1", n)
	}
	if n := w.b.stack.Stats().TCP.ForwardMaxInFlightDrop.Value(); n != 2 {
		t.Errorf("%d drops", n)
	}
	for range 3 {
		(<-requests).Drop()
	}
	if n := len(f.core.hosts); n != 0 || f.InFlight() != 0 {
		t.Errorf("%d destinations left, %d in flight", n, f.InFlight())
	}
	for _, s := range c {
		s.Close()
	}
}

// A Decide that never returns normally rejects.
func TestAsyncForwarderGoexit(t *testing.T) {
	w, f, _ := asyncWorld(t, AsyncForwarderOptions{Decide: func(*AsyncRequest) { runtime.Goexit() }})
	c := w.a.dial(elsewhere)
	for f.InFlight() > 0 {
		runtime.Gosched()
	}
	c.want(c.LastError(), &tcpip.ErrConnectionRefused{})
	c.Close()
}

// A peer that gives up cancels its request; a forged RST does not.
func TestAsyncForwarderPeerGivesUp(t *testing.T) {
	w, f, requests := asyncWorld(t, AsyncForwarderOptions{})
	c := w.a.dial(elsewhere)
	r := <-requests
	iss := tcb.Seq(w.a.wire.log[0].tcp.SequenceNumber())
	rst := func(seq tcb.Seq) {
		s := &inbound{net: 0x800, nic: 1, id: c.Info().(*stack.TransportEndpointInfo).ID}
		w.a.protocol().sendControl(s, &control{id: s.id, seq: seq, flags: tcb.RST})
	}
	rst(iss + 100)
	if n := f.InFlight(); n != 1 {
		t.Errorf("%d in flight after a forged RST", n)
	}
	rst(iss + 1)
	if n := f.InFlight(); n != 0 {
		t.Errorf("%d in flight", n)
	}
	<-r.Context().Done()
	c.Close()
}
