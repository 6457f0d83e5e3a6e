package tcpx

import (
	"context"
	"unique"

	"gvisor.dev/gvisor/pkg/state"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// Checkpoints
//
// gVisor's state package saves a stack with everything that it refers to: so the protocol and its endpoints, which are found through the demultiplexer and through
// the sockets that have them. Saved are settings: those of the stack, those of each socket, what is bound and what listens. A connection is not saved but ended in
// the copy, which hears ECONNABORTED: its peer may have gone on with the original. Nothing is changed in the original.
//
// Loading makes endpoints that know nothing yet; the stack calls Endpoint.Restore when it has its NICs, and protocol.Restore when all endpoints are back. Packets
// that come in between wait.

func init() {
	state.Register((*protocol)(nil))
	state.Register((*Endpoint)(nil))
}

// savedField is one field of what is saved: its name, unique in its type, and a pointer to it.
type savedField struct {
	name string
	at   any
}

func fieldNames(fields []savedField) []string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	return names
}

// saveFields and loadFields use the slots from first on.
func saveFields(m state.Sink, first int, fields []savedField) {
	for i, f := range fields {
		m.Save(first+i, f.at)
	}
}

func loadFields(m state.Source, first int, fields []savedField) {
	for i, f := range fields {
		m.Load(first+i, f.at)
	}
}

// savedProtocol is what a checkpoint has of a protocol. The functions in the options of path MTUs belong to the program and are not in it; neither is what was
// learned about paths, which may be others afterwards.
type savedProtocol struct {
	opts    protocolOptions
	hasPMTU bool
	pmtu    pmtuOptions
	// fastOpen is the configuration of Fast Open, but for its keys: they are drawn anew, or given to the new stack by Configure.
	hasFastOpen bool
	fastOpen    FastOpenConfig
}

func (s *savedProtocol) fields() []savedField {
	o, c, k, f := &s.opts, &s.pmtu.config, &s.pmtu.cache, &s.fastOpen
	return []savedField{
		{"sack", &o.sack}, {"nagle", &o.nagle}, {"cookies", &o.cookies}, {"moderate", &o.moderate},
		{"timestamps", &o.timestamps}, {"windowScaling", &o.windowScaling}, {"recovery", &o.recovery},
		{"sndBuf", &o.sndBuf}, {"rcvBuf", &o.rcvBuf}, {"congestion", &o.congestion},
		{"linger2", &o.linger2}, {"timeWait", &o.timeWait}, {"timeWaitReuse", &o.timeWaitReuse},
		{"minRTO", &o.minRTO}, {"maxRTO", &o.maxRTO}, {"initialRTO", &o.initialRTO},
		{"maxRetries", &o.maxRetries}, {"synRetries", &o.synRetries}, {"delayedACK", &o.delayedACK},
		{"initialWindow", &o.initialWindow}, {"ecn", &o.ecn}, {"synQueue", &o.synQueue},
		{"memoryBudget", &o.memoryBudget}, {"orphanLimit", &o.orphanLimit}, {"timeWaitLimit", &o.timeWaitLimit},
		{"pacing", &o.pacing},
		{"hasFastOpen", &s.hasFastOpen}, {"fastClient", &f.Client}, {"fastDeferred", &f.Deferred}, {"fastServer", &f.Server}, {"fastBacklog", &f.Backlog},
		{"fastKeyLifetime", &f.KeyLifetime}, {"fastCacheSize", &f.CacheSize}, {"fastExperimental", &f.Experimental},
		{"fastClientWithoutCookie", &f.ClientWithoutCookie}, {"fastServerWithoutCookie", &f.ServerWithoutCookie},
		{"hasPMTU", &s.hasPMTU},
		{"pmtuMode", &c.Mode}, {"pmtuMin", &c.Min}, {"pmtuBase", &c.Base}, {"pmtuMax", &c.Max}, {"pmtuStep", &c.Step},
		{"pmtuMaxProbes", &c.MaxProbes}, {"pmtuProbeTimeout", &c.ProbeTimeout}, {"pmtuRaiseInterval", &c.RaiseInterval},
		{"pmtuLosses", &c.Losses}, {"pmtuTimeouts", &c.Timeouts},
		{"cacheFloorIPv4", &k.FloorIPv4}, {"cacheExpire", &k.Expire}, {"cacheRaise", &k.Raise},
		{"cacheRaiseInterval", &k.RaiseInterval}, {"cacheMaxEntries", &k.MaxEntries}, {"cachePlateaus", &k.Plateaus},
	}
}

// StateTypeName implements state.Type.StateTypeName.
func (*protocol) StateTypeName() string { return "github.com/plumbline/plumbline/tcpx.protocol" }

// StateFields implements state.Type.StateFields.
func (*protocol) StateFields() []string {
	return append([]string{"stack"}, fieldNames(new(savedProtocol).fields())...)
}

// StateSave implements state.SaverLoader.StateSave.
func (p *protocol) StateSave(m state.Sink) {
	var s savedProtocol
	p.mu.RLock()
	s.opts = p.opts
	p.mu.RUnlock()
	if o := s.opts.pmtu; o != nil {
		s.hasPMTU, s.pmtu = true, pmtuOptions{config: o.config, cache: o.cache}
	}
	if f := s.opts.fastOpen; f != nil {
		s.hasFastOpen, s.fastOpen = true, *f
	}
	m.Save(0, &p.stack)
	saveFields(m, 1, s.fields())
}

// StateLoad implements state.SaverLoader.StateLoad.
func (p *protocol) StateLoad(_ context.Context, m state.Source) {
	s := new(savedProtocol)
	m.LoadWait(0, &p.stack)
	loadFields(m, 1, s.fields())
	m.AfterLoad(func() {
		if s.hasPMTU {
			s.opts.pmtu = &s.pmtu
		}
		if s.hasFastOpen {
			s.opts.fastOpen = &s.fastOpen
		}
		p.init(s.opts)
		p.pause.on.Store(true) // until Restore
	})
}

// Restore implements stack.TransportProtocol.Restore: the endpoints are back, and packets may come.
func (p *protocol) Restore() { p.Resume() }

// savedEndpoint is what a checkpoint has of an endpoint beside its socket options.
type savedEndpoint struct {
	id                    stack.TransportEndpointID
	netProto              tcpip.NetworkProtocolNumber
	congestion            string
	phase                 phase
	gauges                gauges
	reason                tcb.Reason
	backlog               int
	shut                  bool
	settings              tcb.Settings
	tuning                tcb.Tuning
	hasTimeWait, hasReuse bool
	config                tcb.Config
	reuse                 tcpip.TCPTimeWaitReuseOption
	owner                 tcpip.PacketOwner
}

// fields also has those that e has in the same form.
func (s *savedEndpoint) fields(e *Endpoint) []savedField {
	b, t, k := &e.bound, &s.settings, &s.tuning
	return []savedField{
		{"id", &s.id}, {"netProto", &s.netProto}, {"congestion", &s.congestion}, {"phase", &s.phase}, {"gauges", &s.gauges}, {"reason", &s.reason},
		{"backlog", &s.backlog}, {"shut", &s.shut}, {"hasTimeWait", &s.hasTimeWait}, {"timeWait", &s.config.TimeWait}, {"hasReuse", &s.hasReuse}, {"reuse", &s.reuse},
		{"owner", &s.owner},
		{"userMSS", &e.userMSS}, {"tos", &e.tos}, {"ipv4TTL", &e.ipv4TTL}, {"hopLimit", &e.hopLimit}, {"pmtud", &e.pmtud},
		{"closed", &e.closed}, {"errorTaken", &e.errorTaken}, {"connectNotified", &e.connectNotified}, {"wasConnected", &e.wasConnected},
		{"quickAck", &e.quickAck}, {"shutRead", &e.shutRead}, {"shutWrite", &e.shutWrite},
		{"device", &b.device}, {"nic", &b.nic}, {"flags", &b.flags}, {"held", &b.held}, {"nets", &b.nets}, {"reservedNets", &b.reservedNets},
		{"reserved", &b.reserved}, {"anyAddr", &b.anyAddr}, {"holding", &b.holding}, {"registered", &b.registered},
		{"noDelay", &t.NoDelay}, {"cork", &t.Cork}, {"setQuickAck", &t.QuickAck}, {"keepAlive", &t.KeepAlive},
		{"rcvBufLocked", &t.RcvBufLocked}, {"sndBufLocked", &t.SndBufLocked}, {"rcvBuf", &t.RcvBuf}, {"sndBuf", &t.SndBuf},
		{"keepIdle", &k.KeepIdle}, {"keepIntvl", &k.KeepIntvl}, {"keepCount", &k.KeepCount}, {"userTimeout", &k.UserTimeout}, {"linger2", &k.Linger2},
		{"synRetries", &k.SynRetries}, {"minRTO", &k.MinRTO}, {"maxRTO", &k.MaxRTO}, {"maxRetries", &k.MaxRetries}, {"windowClamp", &k.WindowClamp},
		{"notSentLowat", &k.NotSentLowat}, {"rcvLowat", &k.RcvLowat}, {"maxPacingRate", &k.MaxPacingRate}, {"deferAccept", &k.DeferAccept},
	}
}

// StateTypeName implements state.Type.StateTypeName.
func (*Endpoint) StateTypeName() string { return "github.com/plumbline/plumbline/tcpx.Endpoint" }

// StateFields implements state.Type.StateFields.
func (*Endpoint) StateFields() []string {
	return append([]string{"proto", "waiterQueue", "ops"}, fieldNames(new(savedEndpoint).fields(new(Endpoint)))...)
}

// StateSave implements state.SaverLoader.StateSave.
func (e *Endpoint) StateSave(m state.Sink) {
	e.lock()
	defer e.leave()
	s := savedEndpoint{
		id: e.id, netProto: e.netProto, congestion: e.congestion.Value(), phase: e.phase, gauges: e.gauges,
		reason: e.tcb.Err(), settings: e.tcb.Settings, tuning: *e.tcb.Tuning, owner: e.packetOwner(),
	}
	if e.lst != nil {
		e.lst.mu.Lock()
		s.backlog, s.shut = e.lst.backlog, e.lst.shut
		e.lst.mu.Unlock()
	}
	if x := e.extra; x != nil && x.config != nil {
		s.hasTimeWait, s.config.TimeWait = true, x.config.TimeWait
	}
	if x := e.extra; x != nil && x.timeWaitReuse != nil {
		s.hasReuse, s.reuse = true, *x.timeWaitReuse
	}
	m.Save(0, &e.proto)
	m.Save(1, &e.waiterQueue)
	m.Save(2, &e.ops)
	saveFields(m, 3, s.fields(e))
}

// StateLoad implements state.SaverLoader.StateLoad.
func (e *Endpoint) StateLoad(_ context.Context, m state.Source) {
	s := new(savedEndpoint)
	m.LoadWait(0, &e.proto)
	m.Load(1, &e.waiterQueue)
	m.Load(2, &e.ops)
	loadFields(m, 3, s.fields(e))
	m.AfterLoad(func() {
		e.id, e.netProto = s.id, s.netProto
		e.congestion = unique.Make(s.congestion)
		e.public.Store(uint32(tcp.StateInitial)) // until restore
		e.proto.stack.RegisterRestoredEndpoint(&restored{e: e, saved: s})
	})
}

// restored is an endpoint that was loaded and waits for its stack.
type restored struct {
	e     *Endpoint
	saved *savedEndpoint
}

// Restore implements stack.RestoredEndpoint.Restore.
func (r *restored) Restore(*stack.Stack) {
	e := r.e
	e.mu.Lock()
	ended := e.restore(r.saved)
	e.tcb.Lend(scratchPool.Get().(*tcb.Scratch))
	e.leave()
	if ended {
		e.waiterQueue.Notify(waiter.EventHUp | waiter.EventErr | waiter.ReadableEvents | waiter.WritableEvents)
	}
}

// restore makes e what it was, or the end of that if it was a connection, which it reports. The caller holds e.mu.
func (e *Endpoint) restore(s *savedEndpoint) (ended bool) {
	p := e.proto
	e.txHash = p.stack.InsecureRNG().Uint32()
	e.ops.InitHandler(e, p.stack, sendBufferLimits, receiveBufferLimits)
	s.settings.Tuning = &s.tuning
	p.mu.RLock()
	if *p.tuning == s.tuning {
		s.settings.Tuning = p.tuning // shared by all that changed nothing
	}
	p.mu.RUnlock()
	if s.hasTimeWait {
		c := *p.config()
		c.TimeWait = s.config.TimeWait
		e.makeExtra().config = &c
	}
	if s.hasReuse {
		e.makeExtra().timeWaitReuse = &s.reuse
	}
	if s.owner != nil {
		e.makeExtra().owner = s.owner
	}
	e.gauges = s.gauges
	e.initCore(e.currentConfig(), s.settings)
	e.takePort()
	switch e.phase = s.phase; {
	case s.phase == phaseListen:
		e.lst = newListener(s.backlog)
		e.lst.shut = s.shut
	case s.phase == phaseOpen || s.phase == phaseDeferred:
		e.tcb.Lost(tcb.ReasonAborted)
		e.cleanup()
		return true
	case s.phase == phaseClosed && s.reason != tcb.ReasonNone:
		e.tcb.Lost(s.reason)
	}
	return false
}

// takePort enters the port that e has into the protocol's own table, which no checkpoint has. The caller holds e.mu.
func (e *Endpoint) takePort() {
	if e.bound.reserved {
		u := e.reservedUse()
		e.proto.ports.rebind(&u)
	}
	if e.bound.holding {
		u := e.heldUse()
		e.proto.ports.share(&u)
	}
}

var (
	_ state.SaverLoader      = (*protocol)(nil)
	_ state.SaverLoader      = (*Endpoint)(nil)
	_ stack.RestoredEndpoint = (*restored)(nil)
)
