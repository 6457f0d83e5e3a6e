package afpacket

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// gsoMaxSize is the most that a transport may leave to the link in one packet,
// headers included: the total length of an IP packet has 16 bits.
const gsoMaxSize = 65535

// vlanTagSize is the size of an 802.1Q tag in bytes.
const vlanTagSize = 4

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// Endpoint is a stack.LinkEndpoint on packet sockets. All its methods may be
// called concurrently.
type Endpoint struct {
	name         string
	ifindex      int
	deviceAddr   tcpip.LinkAddress
	vlan         uint16
	offload      bool // segmentation and checksums may be left to either side
	promiscuous  bool
	backpressure Backpressure
	onFailure    func(error)

	rx []*rxQueue
	tx []*txQueue

	addr   atomic.Pointer[tcpip.LinkAddress]
	mtu    atomic.Uint32
	closed atomic.Bool // set with mu held, read by writers without

	mu      sync.Mutex
	current *session // nil unless attached; guarded by mu
	last    *session // current, or the one before Attach(nil); guarded by mu
	onClose func()   // guarded by mu
	err     error    // why the endpoint closed itself; guarded by mu
	// users counts who needs the descriptors: one until Close, and each session
	// until its receivers have returned. Guarded by mu.
	users int
}

// session is the time between Attach and Attach(nil).
type session struct {
	dispatcher stack.NetworkDispatcher
	stopping   atomic.Bool
	wake       int // eventfd, ends a receiver's poll
	before     *session
	receivers  sync.WaitGroup
	done       chan struct{} // closed when all receivers of this and earlier sessions have returned
}

// New opens a device and returns an endpoint that is not attached yet. The
// error says in one line what is missing; if it is a privilege, it is a
// *CapabilityError.
func New(opts Options) (*Endpoint, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	open := openDevice
	if len(opts.FDs) != 0 {
		open = adoptDevice
	}
	d, err := open(&opts)
	if err != nil {
		return nil, err
	}
	return newEndpoint(d, opts), nil
}

// newEndpoint makes an endpoint that owns d.
func newEndpoint(d *device, opts Options) *Endpoint {
	e := &Endpoint{
		name:         d.name,
		ifindex:      d.ifindex,
		deviceAddr:   d.addr,
		vlan:         opts.VLAN,
		offload:      !opts.NoOffload,
		promiscuous:  opts.Promiscuous,
		backpressure: opts.Backpressure,
		onFailure:    opts.OnFailure,
		users:        1,
	}
	for i, fd := range d.fds {
		e.rx = append(e.rx, newRxQueue(e, fd, d.rings[i]))
		e.tx = append(e.tx, newTxQueue(e, fd))
	}
	mtu := opts.MTU
	if mtu == 0 {
		mtu = d.mtu
	}
	e.SetMTU(mtu)
	addr := opts.LinkAddress
	if addr == "" {
		addr = d.addr
	}
	e.addr.Store(&addr)
	return e
}

// Name returns the name that the device had when the endpoint was made.
func (e *Endpoint) Name() string { return e.name }

// Err returns the error that made the endpoint close itself, or nil.
func (e *Endpoint) Err() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.err
}

// MTU implements stack.LinkEndpoint.
func (e *Endpoint) MTU() uint32 { return e.mtu.Load() }

// SetMTU implements stack.LinkEndpoint. It limits what the stack sends and is
// capped at 65535; the device has an MTU of its own, which limits what it takes
// and is not changed.
func (e *Endpoint) SetMTU(mtu uint32) { e.mtu.Store(min(mtu, maxMTU)) }

// MaxHeaderLength implements stack.LinkEndpoint.
func (e *Endpoint) MaxHeaderLength() uint16 {
	if e.vlan != 0 {
		return header.EthernetMinimumSize + vlanTagSize
	}
	return header.EthernetMinimumSize
}

// LinkAddress implements stack.LinkEndpoint.
func (e *Endpoint) LinkAddress() tcpip.LinkAddress { return *e.addr.Load() }

// SetLinkAddress implements stack.LinkEndpoint. The device is asked to receive
// for addr as well; if it cannot, frames for it may not arrive.
func (e *Endpoint) SetLinkAddress(addr tcpip.LinkAddress) {
	e.addr.Store(&addr)
	if len(addr) != header.EthernetAddressSize || addr == e.deviceAddr || e.promiscuous {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users > 0 {
		_ = addUnicast(e.rx[0].fd, e.ifindex, addr)
	}
}

// Capabilities implements stack.LinkEndpoint.
func (e *Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	caps := stack.LinkEndpointCapabilities(stack.CapabilityResolutionRequired)
	if e.offload {
		caps |= stack.CapabilityRXChecksumOffload
	}
	return caps
}

// GSOMaxSize implements stack.GSOEndpoint.
func (e *Endpoint) GSOMaxSize() uint32 { return gsoMaxSize }

// SupportedGSO implements stack.GSOEndpoint.
func (e *Endpoint) SupportedGSO() stack.SupportedGSO {
	if e.offload {
		return stack.HostGSOSupported
	}
	return stack.GSONotSupported
}

// ARPHardwareType implements stack.LinkEndpoint.
func (e *Endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareEther }

// AddHeader implements stack.LinkEndpoint. With Options.VLAN it adds a tag.
func (e *Endpoint) AddHeader(pkt *stack.PacketBuffer) {
	fields := header.EthernetFields{
		SrcAddr: pkt.EgressRoute.LocalLinkAddress,
		DstAddr: pkt.EgressRoute.RemoteLinkAddress,
		Type:    pkt.NetworkProtocolNumber,
	}
	if e.vlan == 0 {
		header.Ethernet(pkt.LinkHeader().Push(header.EthernetMinimumSize)).Encode(&fields)
		return
	}
	b := pkt.LinkHeader().Push(header.EthernetMinimumSize + vlanTagSize)
	fields.Type = unix.ETH_P_8021Q
	header.Ethernet(b).Encode(&fields)
	binary.BigEndian.PutUint16(b[header.EthernetMinimumSize:], e.vlan)
	binary.BigEndian.PutUint16(b[header.EthernetMinimumSize+2:], uint16(pkt.NetworkProtocolNumber))
}

// ParseHeader implements stack.LinkEndpoint. The tag of a frame is part of its
// link header; its identifier is not looked at.
func (e *Endpoint) ParseHeader(pkt *stack.PacketBuffer) bool {
	size := header.EthernetMinimumSize
	b, ok := pkt.Data().PullUp(size)
	if !ok {
		return false
	}
	proto := header.Ethernet(b).Type()
	if e.vlan != 0 && proto == unix.ETH_P_8021Q {
		size += vlanTagSize
		if b, ok = pkt.Data().PullUp(size); !ok {
			return false
		}
		proto = tcpip.NetworkProtocolNumber(binary.BigEndian.Uint16(b[size-2:]))
	}
	if _, ok = pkt.LinkHeader().Consume(size); ok {
		pkt.NetworkProtocolNumber = proto
	}
	return ok
}

// Attach implements stack.LinkEndpoint. With a dispatcher it starts to receive;
// while one is attached, or after Close, another changes nothing. With nil it
// stops: one delivery a queue may still be under way, since the stack holds
// locks here that the delivery may need. Wait waits for it. Frames that arrive
// later are for the next dispatcher.
func (e *Endpoint) Attach(dispatcher stack.NetworkDispatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if dispatcher == nil {
		e.stopLocked()
		return
	}
	if e.current != nil || e.closed.Load() {
		return
	}
	wake, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		go e.fail(fmt.Errorf("cannot receive: %w", os.NewSyscallError("eventfd", err)))
		return
	}
	s := &session{dispatcher: dispatcher, wake: wake, before: e.last, done: make(chan struct{})}
	e.current, e.last = s, s
	e.users++
	s.receivers.Add(len(e.rx))
	for _, q := range e.rx {
		go q.run(s)
	}
	go e.end(s)
}

// end waits for the receivers of s and lets go of what they used.
func (e *Endpoint) end(s *session) {
	s.receivers.Wait()
	e.mu.Lock()
	unix.Close(s.wake)
	s.wake = -1
	s.before = nil
	e.leaveLocked()
	e.mu.Unlock()
	close(s.done)
}

// stopLocked tells the receivers to return. e.mu is held.
func (e *Endpoint) stopLocked() {
	s := e.current
	if s == nil {
		return
	}
	e.current = nil
	s.stopping.Store(true)
	if s.wake >= 0 {
		one := [8]byte{1}
		// The counter is at zero, so that this can neither block nor fail.
		unix.Write(s.wake, one[:])
	}
}

// leaveLocked lets go of buffers and descriptors once nobody uses them. e.mu is
// held.
func (e *Endpoint) leaveLocked() {
	e.users--
	if e.users > 0 {
		return
	}
	for _, q := range e.rx {
		q.close()
	}
	for _, q := range e.tx {
		q.close()
	}
}

// IsAttached implements stack.LinkEndpoint.
func (e *Endpoint) IsAttached() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.current != nil
}

// Wait implements stack.LinkEndpoint: it returns when the receivers that
// Attach(nil) or Close stopped have returned, and with them the last delivery.
// While the endpoint is attached it blocks. It must not be called from a
// delivery.
func (e *Endpoint) Wait() {
	e.mu.Lock()
	s := e.last
	e.mu.Unlock()
	if s != nil {
		<-s.done
	}
}

// Close implements stack.LinkEndpoint. It runs the on-close action, stops
// receiving, and lets go of the device as soon as the last delivery returned,
// which Wait waits for. Calls after the first do nothing.
func (e *Endpoint) Close() {
	e.mu.Lock()
	if e.closed.Load() {
		e.mu.Unlock()
		return
	}
	e.closed.Store(true)
	action := e.onClose
	e.onClose = nil
	e.mu.Unlock()

	if action != nil {
		action()
	}

	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopLocked()
	e.leaveLocked()
}

// SetOnCloseAction implements stack.LinkEndpoint: action runs once, when the
// endpoint is closed or closes itself, before it lets go of the device.
func (e *Endpoint) SetOnCloseAction(action func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.onClose = action
}

// fail ends the endpoint because its device became unusable.
func (e *Endpoint) fail(err error) {
	err = fmt.Errorf("afpacket: %s: %w", e.name, err)
	e.mu.Lock()
	if e.err != nil || e.closed.Load() {
		e.mu.Unlock()
		return
	}
	e.err = err
	e.mu.Unlock()
	e.Close()
	if e.onFailure != nil {
		e.onFailure(err)
	}
}
