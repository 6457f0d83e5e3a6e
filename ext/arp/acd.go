package arp

import (
	"bytes"
	"maps"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ProbeResult is the outcome of probing for an address (RFC 5227 §2.1).
type ProbeResult struct {
	// Err is nil if nobody has the address; *tcpip.ErrDuplicateAddress if Holder does, or is probing for it too; *tcpip.ErrAborted if the interface went down.
	// Adding the address, or sending the probes, may have failed with other errors.
	Err    tcpip.Error
	Holder tcpip.LinkAddress
}

// Action says what was done about a conflict.
type Action uint8

// The actions: the address was announced again, was given up, or neither.
const (
	Defended Action = iota
	Lost
	Observed
)

// String names the action.
func (a Action) String() string {
	switch a {
	case Defended:
		return "defended"
	case Lost:
		return "lost"
	}
	return "observed"
}

// Conflict says that another host claims an address of ours.
type Conflict struct {
	NIC    tcpip.NICID
	Addr   tcpip.Address
	Holder tcpip.LinkAddress
	Action Action
}

// hold is what we do about one address: probe for it, announce it, or defend it.
type hold struct {
	probing bool
	// left counts the probes or announcements that are still to be sent.
	left int
	// timer runs the next step; gen tells a step that it was called off.
	timer tcpip.Timer
	gen   int
	done  []func(ProbeResult)
	// defence overrides Options.Defence.
	defence *Defence
	// conflictAt is the last conflict that counts, if there was one.
	conflictAt tcpip.MonotonicTime
	conflicted bool
	// lost says that the address was given up, and is about to be removed.
	lost bool
}

// claims is the address conflict detection of one interface, guarded by endpoint.mu.
type claims struct {
	timing Timing
	holds  map[tcpip.Address]*hold
	// conflicts counts failed attempts to get an address, attempted is when the last began.
	conflicts int
	attempted tcpip.MonotonicTime
}

func (c *claims) hold(addr tcpip.Address) *hold {
	h := c.holds[addr]
	if h == nil {
		h = &hold{}
		c.holds[addr] = h
	}
	return h
}

// release forgets h if there is nothing to remember.
func (c *claims) release(addr tcpip.Address, h *hold) {
	if c.holds[addr] == h && !h.probing && h.left == 0 && h.defence == nil && !h.conflicted && !h.lost {
		delete(c.holds, addr)
	}
}

// cancel calls off what is going on for h.
func (h *hold) cancel() {
	h.gen++
	h.left = 0
	if h.timer != nil {
		h.timer.Stop()
		h.timer = nil
	}
}

// stop calls everything off, and returns who waits for a result.
func (c *claims) stop() (done []func(ProbeResult)) {
	for _, addr := range slices.SortedFunc(maps.Keys(c.holds), compare) {
		h := c.holds[addr]
		h.cancel()
		if h.probing {
			done = append(done, h.done...)
			h.probing, h.done = false, nil
			delete(c.holds, addr)
		}
	}
	return done
}

// compare orders addresses, so that what is done for each of them is done in the same order in every run.
func compare(a, b tcpip.Address) int { return bytes.Compare(a.AsSlice(), b.AsSlice()) }

func finish(done []func(ProbeResult), r ProbeResult) {
	for _, f := range done {
		if f != nil {
			f(r)
		}
	}
}

// after runs step for h in d, unless it is called off. The caller holds e.mu; step is called without it.
func (e *endpoint) after(d time.Duration, h *hold, step func()) {
	h.gen++
	gen := h.gen
	h.timer = e.p.stack.Clock().AfterFunc(d, func() {
		e.mu.Lock()
		off := h.gen != gen
		e.mu.Unlock()
		if !off {
			step()
		}
	})
}

// probe starts to probe for addr, and reports false if that is under way already; done is called in any case.
func (e *endpoint) probe(addr tcpip.Address, done func(ProbeResult)) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.hold(addr)
	h.done = append(h.done, done)
	if h.probing {
		return false
	}
	h.cancel()
	h.probing, h.left = true, e.timing.ProbeNum
	e.after(e.probeDelay(), h, func() { e.probeStep(addr, h) })
	return true
}

// probeDelay is the wait before the first probe: random, so that hosts that start together do not probe together, and long after many conflicts.
func (e *endpoint) probeDelay() time.Duration {
	now := e.now()
	d := e.random(0, e.timing.ProbeWait)
	if e.conflicts >= e.timing.MaxConflicts {
		d = max(d, e.timing.RateLimit-now.Sub(e.attempted))
	}
	e.attempted = now.Add(d)
	return d
}

func (e *endpoint) random(low, high time.Duration) time.Duration {
	if high <= low {
		return low
	}
	return low + time.Duration(e.p.stack.InsecureRNG().Int63n(int64(high-low)+1))
}

// probeStep sends a probe, or finds that nobody answered the last one.
func (e *endpoint) probeStep(addr tcpip.Address, h *hold) {
	e.mu.Lock()
	if !h.probing {
		e.mu.Unlock()
		return
	}
	if h.left == 0 {
		done := h.done
		h.probing, h.done = false, nil
		e.release(addr, h)
		e.conflicts = 0
		e.mu.Unlock()
		finish(done, ProbeResult{})
		return
	}
	h.left--
	wait := e.timing.AnnounceWait
	if h.left > 0 {
		wait = e.random(e.timing.ProbeMin, e.timing.ProbeMax)
	}
	e.after(wait, h, func() { e.probeStep(addr, h) })
	e.mu.Unlock()

	if err := e.send(Packet{Op: OpRequest, Sender: header.IPv4Any, Target: addr}, header.EthernetBroadcastAddress); err != nil {
		e.endProbe(addr, h, ProbeResult{Err: err})
		return
	}
	e.stats.ProbesSent.Increment()
}

// endProbe ends probing without success.
func (e *endpoint) endProbe(addr tcpip.Address, h *hold, r ProbeResult) {
	e.mu.Lock()
	if !h.probing {
		e.mu.Unlock()
		return
	}
	done := h.done
	if _, dup := r.Err.(*tcpip.ErrDuplicateAddress); dup {
		e.conflicts++
	}
	h.cancel()
	h.probing, h.done = false, nil
	e.release(addr, h)
	e.mu.Unlock()
	finish(done, r)
}

// announce tells everybody that addr is ours (RFC 5227 §2.3).
func (e *endpoint) announce(addr tcpip.Address) {
	e.mu.Lock()
	h := e.hold(addr)
	if h.probing {
		e.mu.Unlock()
		return
	}
	h.cancel()
	h.left = e.timing.AnnounceNum
	e.mu.Unlock()
	e.announceStep(addr, h)
}

func (e *endpoint) announceStep(addr tcpip.Address, h *hold) {
	_, ours := e.owned(addr)
	e.mu.Lock()
	switch {
	case !ours || !e.enabled.Load():
		h.cancel()
		if e.holds[addr] == h && !h.probing {
			delete(e.holds, addr)
		}
		e.mu.Unlock()
		return
	case h.left == 0 || h.probing:
		e.mu.Unlock()
		return
	}
	h.left--
	if h.left > 0 {
		e.after(e.timing.AnnounceInterval, h, func() { e.announceStep(addr, h) })
	}
	e.release(addr, h)
	e.mu.Unlock()
	e.announceOnce(addr)
}

func (e *endpoint) announceOnce(addr tcpip.Address) {
	if e.send(Packet{Op: OpRequest, Sender: addr, Target: addr}, header.EthernetBroadcastAddress) == nil {
		e.stats.AnnouncementsSent.Increment()
	}
}

// announceAll announces every address of the interface.
func (e *endpoint) announceAll() {
	v4 := e.ipv4()
	if v4 == nil || !e.Enabled() {
		return
	}
	all := v4.PermanentAddresses() // in the order of a map
	slices.SortFunc(all, func(a, b tcpip.AddressWithPrefix) int { return compare(a.Address, b.Address) })
	for _, a := range all {
		if isHost(a.Address) {
			e.announce(a.Address)
		}
	}
}

// conflict looks for a conflict in a packet from another host (RFC 5227 §2.1.1 and §2.4), and reports whether there is one.
func (e *endpoint) conflict(p *Packet) bool {
	wanted := p.Sender
	if p.Probe() {
		wanted = p.Target // another host is after the same address
	}
	_, ours := e.owned(wanted)
	ours = ours && !p.Probe()
	e.mu.Lock()
	h := e.holds[wanted]
	probing := h != nil && h.probing
	e.mu.Unlock()
	switch {
	case !probing && !ours:
		return false
	case e.p.isOurs(p.SenderLink):
		e.stats.Echoes.Increment() // another interface of ours is on the same link
		return true
	}
	e.stats.Conflicts.Increment()
	if probing {
		e.endProbe(wanted, h, ProbeResult{Err: &tcpip.ErrDuplicateAddress{}, Holder: p.SenderLink})
	}
	if ours {
		e.defend(p.Sender, p.SenderLink)
	}
	return true
}

// isOurs reports whether a link address is that of one of the stack's interfaces.
func (p *Protocol) isOurs(link tcpip.LinkAddress) bool {
	return slices.ContainsFunc(p.endpoints(), func(e *endpoint) bool { return e.nic.LinkAddress() == link })
}

// defend acts on a claim to an address of ours.
func (e *endpoint) defend(addr tcpip.Address, holder tcpip.LinkAddress) {
	now := e.now()
	e.mu.Lock()
	h := e.hold(addr)
	policy := e.p.opts.Defence
	if h.defence != nil {
		policy = *h.defence
	}
	if h.lost {
		e.mu.Unlock()
		return
	}
	recent := h.conflicted && now.Sub(h.conflictAt) < e.timing.DefendInterval
	if !recent || policy == DefendOnce {
		h.conflictAt, h.conflicted = now, true
	}
	lost := policy == GiveUp || policy == DefendOnce && recent
	if lost {
		h.cancel()
		h.lost = true
	}
	e.mu.Unlock()

	c := Conflict{NIC: e.nic.ID(), Addr: addr, Holder: holder, Action: Observed}
	switch {
	case lost:
		c.Action = Lost
		e.stats.AddressesLost.Increment()
		// Whoever delivered the packet may be inside the stack.
		e.p.stack.Clock().AfterFunc(0, func() { e.giveUp(addr, h) })
	case recent:
		return
	case policy != Observe:
		c.Action = Defended
		e.announceOnce(addr)
	}
	if f := e.p.opts.OnConflict; f != nil {
		f(c)
	}
}

// giveUp removes an address that was lost.
func (e *endpoint) giveUp(addr tcpip.Address, h *hold) {
	e.mu.Lock()
	lost := h.lost
	if lost && e.holds[addr] == h {
		delete(e.holds, addr)
	}
	e.mu.Unlock()
	if lost {
		_ = e.p.stack.RemoveAddress(e.nic.ID(), addr)
	}
}

// CheckDuplicateAddress implements stack.DuplicateAddressDetector by probing as RFC 5227 has it.
func (e *endpoint) CheckDuplicateAddress(addr tcpip.Address, h stack.DADCompletionHandler) stack.DADCheckAddressDisposition {
	e.mu.Lock()
	off := e.timing.ProbeNum == 0 || !e.resolves()
	e.mu.Unlock()
	if off {
		return stack.DADDisabled
	}
	started := e.probe(addr, func(r ProbeResult) {
		switch r.Err.(type) {
		case nil:
			h(&stack.DADSucceeded{})
		case *tcpip.ErrDuplicateAddress:
			h(&stack.DADDupAddrDetected{HolderLinkAddress: r.Holder})
		case *tcpip.ErrAborted:
			h(&stack.DADAborted{})
		default:
			h(&stack.DADError{Err: r.Err})
		}
	})
	if !started {
		return stack.DADAlreadyRunning
	}
	return stack.DADStarting
}

// SetDADConfigurations implements stack.DuplicateAddressDetector: the number of probes, and the time between them and after the last.
func (e *endpoint) SetDADConfigurations(c stack.DADConfigurations) {
	c.Validate()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.timing.ProbeNum = int(c.DupAddrDetectTransmits)
	e.timing.ProbeMin, e.timing.ProbeMax, e.timing.AnnounceWait = c.RetransmitTimer, c.RetransmitTimer, c.RetransmitTimer
}

// DuplicateAddressProtocol implements stack.DuplicateAddressDetector.
func (*endpoint) DuplicateAddressProtocol() tcpip.NetworkProtocolNumber {
	return header.IPv4ProtocolNumber
}
