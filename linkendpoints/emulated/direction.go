package emulated

import (
	"math/rand/v2"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// direction is one direction of a path.
type direction struct {
	path *Path
	to   *side
	link Link

	mu sync.Mutex
	// All below is guarded by mu.

	server  server
	queue   discipline
	policer *bucket
	loss    lossProcess
	line    delayLine
	// serving is the packet that is being serialised, if busy.
	serving packet
	busy    bool

	// seq numbers packets as they come to the delay line.
	seq uint64
	// lastDue is when the last packet of each host is due, so that jitter does not reorder.
	lastDue []time.Duration
	rng     randomness

	timer tcpip.Timer
	armed time.Duration // when the timer fires; 0 if it does not
	steps tcpip.Timer

	// delivering is true while somebody hands packets to hosts. Nobody else does then, so that they stay in order.
	delivering bool
	batch      []packet
	closed     bool

	stats      Stats
	nextSample time.Duration
	lastWait   time.Duration // the delay that Sample tells
}

// randomness has a source for each purpose, so that one does not change another.
type randomness struct {
	queue, loss, mark, jitter, reorder, duplicate *rand.Rand
}

// newRandomness derives the sources of one direction from a seed.
func newRandomness(seed, direction uint64) randomness {
	purpose := direction << 8
	source := func() *rand.Rand {
		purpose++
		return rand.New(rand.NewPCG(seed, purpose))
	}
	return randomness{queue: source(), loss: source(), mark: source(), jitter: source(), reorder: source(), duplicate: source()}
}

func (d *direction) init(p *Path, to *side, link Link, seed, number uint64) {
	d.path, d.to, d.link = p, to, link
	d.rng = newRandomness(seed, number)
	d.lastDue = make([]time.Duration, len(to.hosts))
	if link.Rate != 0 || link.Trace != nil {
		q := link.Queue
		if q == nil {
			q = FIFO{}
		}
		d.queue = q.discipline(&queueEnv{drop: d.drop, mark: d.mark, rng: d.rng.queue, mtu: int(p.mtu)})
		d.server = newServer(&link)
	}
	if link.Policer != nil {
		d.policer = newBucket(link.Policer)
	}
	if link.Loss != nil {
		d.loss = link.Loss.process(d.rng.loss)
	}
	if len(link.Steps) > 0 {
		d.steps = p.clock.AfterFunc(link.Steps[0].At, d.step)
	}
}

// drop gives a packet up.
func (d *direction) drop(p packet, cause DropCause) {
	d.stats.Dropped[cause].add(p.size)
	p.pkt.DecRef()
}

// mark marks a packet as CE if it may be.
func (d *direction) mark(p *packet) bool {
	if !p.mark() {
		return false
	}
	d.stats.Marked++
	return true
}

// send takes packets from a host of the near side.
func (d *direction) send(pkts []*stack.PacketBuffer, mtu int) (int, tcpip.Error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return 0, &tcpip.ErrClosedForSend{}
	}
	now := d.path.now()
	d.advance(now)
	for i, pkt := range pkts {
		if pkt.Size() > mtu {
			d.arm(now)
			return i, &tcpip.ErrMessageTooLong{}
		}
		d.accept(now, pkt)
	}
	d.arm(now)
	return len(pkts), nil
}

// accept takes one packet into the queue, or past it on a link without a limit. The caller has advanced to now.
func (d *direction) accept(now time.Duration, pkt *stack.PacketBuffer) {
	// Before the clone: what two packets share is copied when a header of one is asked for.
	network, transport := networkHeader(pkt)
	p := packet{pkt: clonePacket(pkt), size: int32(pkt.Size() + d.link.Overhead)}
	d.stats.Sent.add(p.size)
	p.pkt.NetworkProtocolNumber = protocolOf(pkt, network)
	f, isIP := parseFields(network)
	if isIP {
		p.ecn = f.ecn
		p.flow = flowHash(d.path.seed, f, transport)
	}
	p.host = d.to.hostOf(f.dst)
	if p.host < 0 {
		d.drop(p, DropNobody)
		return
	}
	if d.policer != nil && !d.policer.take(now, p.size) {
		d.drop(p, DropPolicer)
		return
	}
	if d.queue == nil {
		d.depart(now, p)
		return
	}
	d.queue.enqueue(now, p)
	d.stats.MaxQueue = max(d.stats.MaxQueue, uint64(d.queue.bytes()))
	if !d.busy {
		d.serve(now)
	}
}

// advance lets everything happen in the queue that happens by to.
func (d *direction) advance(to time.Duration) {
	for d.busy && d.server.departs <= to {
		t := d.server.departs
		d.sample(t)
		p := d.serving
		d.serving, d.busy = packet{}, false
		d.depart(t, p)
		d.serve(t)
	}
	d.sample(to)
}

// serve starts to serialise the next packet at t.
func (d *direction) serve(t time.Duration) {
	if d.server.down {
		return
	}
	p, ok := d.queue.dequeue(t)
	if !ok {
		d.server.idle()
		d.lastWait = 0
		return
	}
	d.lastWait = t - p.at
	d.stats.Sojourn.Add(d.lastWait)
	d.server.start(t, int(p.size))
	d.serving, d.busy = p, true
}

// depart takes a packet that leaves the queue at t over the wire.
func (d *direction) depart(t time.Duration, p packet) {
	if d.loss != nil && d.loss.lose() {
		d.drop(p, DropLoss)
		return
	}
	if d.link.MarkCE > 0 && d.rng.mark.Float64() < d.link.MarkCE {
		d.mark(&p)
	}
	d.propagate(t, p)
	if d.link.Duplicate > 0 && d.rng.duplicate.Float64() < d.link.Duplicate {
		d.stats.Duplicated++
		twin := p
		twin.pkt = clonePacket(p.pkt)
		d.propagate(t, twin)
	}
}

// propagate puts a packet into the delay line.
func (d *direction) propagate(t time.Duration, p packet) {
	l := &d.link
	due := t + l.Delay + d.to.hosts[p.host].delay
	if l.Jitter > 0 {
		due += time.Duration(d.rng.jitter.Uint64N(uint64(l.Jitter) + 1))
	}
	if l.Aggregate > 0 {
		due += (l.Aggregate - due%l.Aggregate) % l.Aggregate
	}
	last := &d.lastDue[p.host]
	if !l.JitterReorders {
		due = max(due, *last)
		*last = due
	}
	if l.Reorder.Probability > 0 && d.rng.reorder.Float64() < l.Reorder.Probability {
		d.stats.Reordered++
		due += l.Reorder.Delay
	}
	p.at = due
	p.seq = d.seq
	d.seq++
	d.line.push(p)
}

// sample records the samples due before t.
func (d *direction) sample(t time.Duration) {
	for d.link.SampleInterval > 0 && d.nextSample < t {
		s := Sample{At: d.nextSample, Delay: d.lastWait, Dropped: d.stats.Drops(), Sent: d.stats.Sent.Bytes}
		for _, dropped := range d.stats.Dropped[:DropLoss] {
			s.Sent -= dropped.Bytes
		}
		if d.queue != nil {
			s.QueueBytes = d.queue.bytes()
			s.Sent -= uint64(s.QueueBytes)
		}
		d.stats.Series = append(d.stats.Series, s)
		d.nextSample += d.link.SampleInterval
	}
}

// arm sets the timer for the next delivery. now is the present instant, or was a moment ago.
func (d *direction) arm(now time.Duration) {
	next, ok := d.next()
	if !ok || d.delivering || d.closed {
		return
	}
	if d.armed != 0 && d.armed <= next {
		return
	}
	d.armed = max(next, 1)
	wait := max(next-now, 0)
	if d.timer == nil {
		d.timer = d.path.clock.AfterFunc(wait, d.fire)
		return
	}
	d.timer.Stop()
	d.timer.Reset(wait)
}

// next returns an instant before which nothing is due; it reports false if nothing is under way.
func (d *direction) next() (time.Duration, bool) {
	next, ok := d.line.next()
	if d.busy {
		// None leaves before the packet that is being served, and none is faster than the least delay.
		if earliest := d.server.departs + d.link.Delay + d.to.leastDelay; !ok || earliest < next {
			return earliest, true
		}
	}
	return next, ok
}

// fire delivers what is due when the timer fires.
func (d *direction) fire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.armed = 0
	if d.delivering || d.closed {
		return
	}
	d.delivering = true
	var now time.Duration
	for {
		now = d.path.now()
		d.advance(now)
		batch := d.batch[:0]
		for {
			at, ok := d.line.next()
			if !ok || at > now {
				break
			}
			d.stats.Late.Add(now - at)
			batch = append(batch, d.line.pop())
		}
		d.batch = batch
		if len(batch) == 0 || d.closed {
			break
		}
		d.mu.Unlock()
		d.deliver(batch)
		d.mu.Lock()
		d.account(batch)
	}
	d.delivering = false
	d.arm(now)
}

// deliver hands packets to their hosts. Those that nobody took keep their reference.
func (d *direction) deliver(batch []packet) {
	for i := range batch {
		p := &batch[i]
		if d.to.hosts[p.host].endpoint.deliver(p.pkt) {
			p.pkt.DecRef()
			p.pkt = nil
		}
	}
}

// account counts what deliver did.
func (d *direction) account(batch []packet) {
	for i := range batch {
		if p := &batch[i]; p.pkt != nil {
			d.drop(*p, DropNobody)
		} else {
			d.stats.Delivered.add(p.size)
		}
	}
	clear(batch)
}

// step applies the first of the steps left.
func (d *direction) step() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	now := d.path.now()
	d.advance(now)
	s := d.link.Steps[0]
	d.link.Steps = d.link.Steps[1:]
	d.link.Delay = s.Delay
	if d.queue != nil {
		d.server.change(now, s, d.busy)
		if !d.busy {
			d.serve(now)
		}
	}
	if len(d.link.Steps) > 0 {
		d.steps.Reset(max(d.link.Steps[0].At-now, 0))
	}
	d.arm(now)
}

// close drops what is under way.
func (d *direction) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return
	}
	d.closed = true
	for _, t := range []tcpip.Timer{d.timer, d.steps} {
		if t != nil {
			t.Stop()
		}
	}
	if d.busy {
		d.drop(d.serving, DropNobody)
		d.busy = false
	}
	for d.line.len() > 0 {
		d.drop(d.line.pop(), DropNobody)
	}
	if d.queue == nil {
		return
	}
	d.purge()
}

// purge empties the queue, whatever its discipline makes of it.
func (d *direction) purge() {
	for d.queue.packets() > 0 {
		if p, ok := d.queue.dequeue(d.path.now()); ok {
			d.drop(p, DropNobody)
		}
	}
}

// snapshot returns a copy of the counters as of now.
func (d *direction) snapshot() Stats {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.closed {
		now := d.path.now()
		d.advance(now)
		d.arm(now)
	}
	s := d.stats
	if d.queue != nil {
		s.Queue = Count{Packets: uint64(d.queue.packets()), Bytes: uint64(d.queue.bytes())}
	}
	s.Series = s.Series[:len(s.Series):len(s.Series)]
	return s
}
