package tcpx

import (
	"bytes"
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/state"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/loopback"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/congestion/reno"
	"github.com/plumbline/plumbline/ext/pmtu"
)

// program is what a checkpoint is made of in these tests: a stack and the sockets of its users.
type program struct {
	stack   *stack.Stack
	sockets []tcpip.Endpoint
}

func init() { state.Register((*program)(nil)) }

func (*program) StateTypeName() string { return "tcpx_test.program" }
func (*program) StateFields() []string { return []string{"stack", "sockets"} }

func (p *program) StateSave(m state.Sink) {
	m.Save(0, &p.stack)
	m.Save(1, &p.sockets)
}

func (p *program) StateLoad(_ context.Context, m state.Source) {
	m.Load(0, &p.stack)
	m.Load(1, &p.sockets)
}

func loopbackStack(opts ...Option) *stack.Stack {
	return stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{New(opts...)},
	})
}

func plug(t *testing.T, s *stack.Stack) {
	t.Helper()
	if err := s.CreateNIC(1, loopback.New()); err != nil {
		t.Fatal(err)
	}
	addr := tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: tcpip.AddressWithPrefix{Address: header.IPv4Loopback, PrefixLen: 8}}
	if err := s.AddProtocolAddress(1, addr, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	s.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: 1}})
}

func newProgram(t *testing.T, opts ...Option) *program {
	p := &program{stack: loopbackStack(opts...)}
	plug(t, p.stack)
	p.cleanup(t)
	return p
}

func (p *program) cleanup(t *testing.T) {
	t.Cleanup(func() {
		for _, e := range p.sockets {
			e.Abort()
		}
		p.stack.RemoveNIC(1)
		p.stack.Destroy()
	})
}

func (p *program) socket(t *testing.T) *Endpoint {
	t.Helper()
	e, err := p.stack.NewEndpoint(ProtocolNumber, ipv4.ProtocolNumber, new(waiter.Queue))
	if err != nil {
		t.Fatal(err)
	}
	p.sockets = append(p.sockets, e)
	return e.(*Endpoint)
}

// copy saves the program and loads it again, with the NICs of a stack that was made for it, as runsc does.
// before, if not nil, is called when packets can come and nothing is restored yet.
func (p *program) copy(t *testing.T, before func(q *program)) *program {
	t.Helper()
	p.stack.Pause()
	var b bytes.Buffer
	_, err := state.Save(t.Context(), &b, &p)
	p.stack.Resume()
	if err != nil {
		t.Fatal(err)
	}
	var q *program
	if _, err := state.Load(t.Context(), &b, &q); err != nil {
		t.Fatal(err)
	}
	host := loopbackStack()
	plug(t, host)
	q.stack.ResetConfig()
	q.stack.ReplaceConfig(host)
	if before != nil {
		before(q)
	}
	q.stack.Restore()
	q.cleanup(t)
	return q
}

func (p *program) at(i int) *Endpoint { return p.sockets[i].(*Endpoint) }

func at(port uint16) tcpip.FullAddress {
	return tcpip.FullAddress{Addr: header.IPv4Loopback, Port: port}
}

func must(t *testing.T, err tcpip.Error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// connectTo connects e, which happens inline.
func connectTo(t *testing.T, e *Endpoint, port uint16) {
	t.Helper()
	if err := e.Connect(at(port)); err != nil {
		if _, ok := err.(*tcpip.ErrConnectStarted); !ok {
			t.Fatal(err)
		}
	}
	if s := e.EndpointState(); s != tcp.StateEstablished {
		t.Fatalf("state after connect: %v", s)
	}
}

func TestCheckpointKeepsListeners(t *testing.T) {
	p := newProgram(t)
	l := p.socket(t)
	must(t, l.Bind(at(80)))
	must(t, l.Listen(2))
	waiting := p.socket(t)
	connectTo(t, waiting, 80) // nobody accepts it

	q := p.copy(t, nil)
	l = q.at(0)
	if s := l.EndpointState(); s != tcp.StateListen {
		t.Fatalf("the listener is %v", s)
	}
	if _, _, err := l.Accept(nil); err == nil {
		t.Error("the connection that waited can be accepted in the copy")
	}
	for range 2 {
		c := q.socket(t)
		connectTo(t, c, 80)
		d, _, err := l.Accept(nil)
		must(t, err)
		q.sockets = append(q.sockets, d)
		if _, err := c.Write(strings.NewReader("hello"), tcpip.WriteOptions{}); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := d.Read(&b, tcpip.ReadOptions{}); err != nil || b.String() != "hello" {
			t.Errorf("read %q, %v", &b, err)
		}
	}
	if err := q.socket(t).Bind(at(80)); err == nil {
		t.Error("the listener's port is free in the copy")
	}
	l.Close()
	if err := q.socket(t).Bind(tcpip.FullAddress{Addr: header.IPv4Loopback, Port: 81}); err != nil {
		t.Error(err)
	}
	if _, ok := q.socket(t).Connect(at(80)).(*tcpip.ErrConnectStarted); !ok || q.at(len(q.sockets)-1).EndpointState() != tcp.StateError {
		t.Error("the port of a listener that was closed in the copy is not refused")
	}
}

// The NICs are back before the endpoints: what comes in between waits.
func TestCheckpointHoldsPacketsBack(t *testing.T) {
	p := newProgram(t)
	l := p.socket(t)
	must(t, l.Bind(at(80)))
	must(t, l.Listen(1))
	var early *Endpoint
	p.copy(t, func(q *program) {
		early = q.socket(t)
		if _, ok := early.Connect(at(80)).(*tcpip.ErrConnectStarted); !ok || early.EndpointState() != tcp.StateSynSent {
			t.Fatalf("before Restore: %v", early.EndpointState())
		}
	})
	if s := early.EndpointState(); s != tcp.StateEstablished {
		t.Errorf("after Restore: %v", s)
	}
}

func TestCheckpointKeepsBoundSockets(t *testing.T) {
	p := newProgram(t)
	e := p.socket(t)
	must(t, e.Bind(at(80)))
	q := p.copy(t, nil)
	e = q.at(0)
	if s := e.EndpointState(); s != tcp.StateBound {
		t.Fatalf("state %v", s)
	}
	if a, err := e.GetLocalAddress(); err != nil || a.Port != 80 || a.Addr != header.IPv4Loopback {
		t.Errorf("bound to %v, %v", a, err)
	}
	if err := q.socket(t).Bind(at(80)); err == nil {
		t.Error("the port is free in the copy")
	}
	if n := len(protocolOf(q.stack).ports.bound); n != 1 {
		t.Errorf("the copy knows %d bound ports, want 1", n)
	}
	must(t, e.Listen(1))
	connectTo(t, q.socket(t), 80)
	e.Close()
}

// A connection goes on in the original and is over in the copy: two hosts that speak for one would confuse the peer.
func TestCheckpointEndsConnections(t *testing.T) {
	p := newProgram(t)
	l := p.socket(t)
	must(t, l.Bind(at(80)))
	must(t, l.Listen(2))
	c := p.socket(t)
	connectTo(t, c, 80)
	accepted, _, err := l.Accept(nil)
	must(t, err)
	p.sockets = append(p.sockets, accepted)
	left := p.socket(t)
	connectTo(t, left, 80)
	left.Close() // lingers in FIN-WAIT-2, since its peer was not accepted

	q := p.copy(t, nil)
	if n := q.stack.Stats().TCP.CurrentEstablished.Value(); n != 0 {
		t.Errorf("%d connections are counted in the copy", n)
	}
	for i, what := range []string{"client", "server"} {
		e := q.at(1 + i)
		if s := e.EndpointState(); s != tcp.StateError {
			t.Errorf("%s: %v in the copy", what, s)
		}
		if r := e.Readiness(waiter.EventErr | waiter.EventHUp); r == 0 {
			t.Errorf("%s: not ready for anything", what)
		}
		if _, err := e.Read(new(bytes.Buffer), tcpip.ReadOptions{}); !same(err, &tcpip.ErrAborted{}) {
			t.Errorf("%s: read: %v", what, err)
		}
		if _, err := e.Read(new(bytes.Buffer), tcpip.ReadOptions{}); !same(err, &tcpip.ErrClosedForReceive{}) {
			t.Errorf("%s: second read: %v", what, err)
		}
	}
	if n := len(q.stack.RegisteredEndpoints()); n != 1 {
		t.Errorf("%d endpoints are registered in the copy, want the listener alone", n)
	}
	local, err := q.at(1).GetLocalAddress()
	must(t, err)
	must(t, q.socket(t).Bind(at(local.Port)))

	if _, err := c.Write(strings.NewReader("on"), tcpip.WriteOptions{}); err != nil {
		t.Errorf("the original: %v", err)
	}
	var b bytes.Buffer
	if _, err := accepted.Read(&b, tcpip.ReadOptions{}); err != nil || b.String() != "on" {
		t.Errorf("the original: read %q, %v", &b, err)
	}
}

func same(a, b tcpip.Error) bool { return reflect.TypeOf(a) == reflect.TypeOf(b) }

func TestCheckpointKeepsErrors(t *testing.T) {
	p := newProgram(t)
	e := p.socket(t)
	e.Connect(at(80)) // is refused
	q := p.copy(t, nil)
	if err := q.at(0).LastError(); !same(err, &tcpip.ErrConnectionRefused{}) {
		t.Errorf("SO_ERROR in the copy: %v", err)
	}
}

func TestCheckpointKeepsOptions(t *testing.T) {
	p := newProgram(t, WithCongestion(reno.Name), WithMemoryBudget(1<<30), WithPMTU(pmtu.Config{Mode: pmtu.Always, Base: 1300}, pmtu.Options{MaxEntries: 7}))
	delay := tcpip.TCPDelayEnabled(true)
	must(t, p.stack.SetTransportProtocolOption(ProtocolNumber, &delay))
	e := p.socket(t)
	e.SocketOptions().SetKeepAlive(true)
	e.SocketOptions().SetSendBufferSize(100_000, true)
	idle := tcpip.KeepaliveIdleOption(7 * time.Second)
	must(t, e.SetSockOpt(&idle))
	must(t, e.SetSockOptInt(tcpip.MaxSegOption, 1000))
	linger := tcpip.TCPTimeWaitTimeoutOption(3 * time.Second)
	must(t, e.SetSockOpt(&linger))
	p.socket(t) // left alone

	q := p.copy(t, nil)
	old, now := protocolOf(p.stack), protocolOf(q.stack)
	if a, b := withoutPointers(old.opts), withoutPointers(now.opts); a != b {
		t.Errorf("the stack's options:\n%+v\n%+v", a, b)
	}
	if !reflect.DeepEqual(*old.opts.pmtu, *now.opts.pmtu) || now.pmtu == nil || now.memory.limit != 1<<30 {
		t.Errorf("path MTU: %+v", now.opts.pmtu)
	}
	f := q.at(0)
	if a, b := e.tcb.Settings, f.tcb.Settings; *a.Tuning != *b.Tuning {
		t.Errorf("%+v\n%+v", *a.Tuning, *b.Tuning)
	} else if a.Tuning, b.Tuning = nil, nil; a != b {
		t.Errorf("%+v\n%+v", a, b)
	}
	if f.userMSS != 1000 || f.congestion != e.congestion || f.currentConfig().TimeWait != 3*time.Second || !f.SocketOptions().GetKeepAlive() {
		t.Error("options of the socket are lost")
	}
	if q.at(1).tcb.Tuning != now.tuning {
		t.Error("a socket that was left alone has a tuning of its own")
	}
	if old.secrets == now.secrets {
		t.Error("the copy has the secrets of the original")
	}
}

func withoutPointers(o protocolOptions) protocolOptions {
	o.pmtu, o.fastOpen = nil, nil
	return o
}

// Whoever adds an option has to save it.
func TestCheckpointHasEveryOption(t *testing.T) {
	p, s, e := new(savedProtocol), new(savedEndpoint), new(Endpoint)
	var saved []any
	for _, f := range slices.Concat(p.fields(), s.fields(e)) {
		saved = append(saved, f.at)
	}
	elsewhere := []string{"protocolOptions.pmtu", "protocolOptions.fastOpen", "Tuning.FastOpen", "Settings.Tuning", "Options.Validate", "Options.OnChange"}
	for _, v := range []any{&p.opts, &p.pmtu.config, &p.pmtu.cache, &s.settings, &s.tuning, &e.bound} {
		v := reflect.ValueOf(v).Elem()
		for i := range v.NumField() {
			name := v.Type().Name() + "." + v.Type().Field(i).Name
			found := slices.ContainsFunc(saved, func(at any) bool { return reflect.ValueOf(at).UnsafePointer() == v.Field(i).Addr().UnsafePointer() })
			if !found && !slices.Contains(elsewhere, name) {
				t.Errorf("%s is not saved", name)
			}
		}
	}
}
