//go:build amd64 || arm64

package xdp

import (
	"errors"
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/internal/endpoint"
	"github.com/plumbline/plumbline/linkendpoints/internal/lifecycle"
)

var (
	_ stack.LinkEndpoint = (*Endpoint)(nil)
	_ stack.GSOEndpoint  = (*Endpoint)(nil)
)

// base is what the endpoint does as those on other devices do.
type base = endpoint.Ethernet

// Endpoint is a stack.LinkEndpoint on AF_XDP sockets. All its methods may be
// called concurrently. SetMTU limits what the stack sends, and takes at most the
// MTU that the device had when it was opened. SetLinkAddress changes neither what
// the device receives nor Filter.OtherHosts.
//
// Attach(nil) and Close do not wait for a delivery that is under way; Wait does.
// Close lets go of the device, which detaches the program, as soon as the last
// delivery returned. Err says why an endpoint closed itself.
type Endpoint struct {
	base
	life lifecycle.Lifecycle

	device      Device
	options     Options
	sockets     *sockets // its mappings are valid until life releases them
	maxFrame    int      // the longest frame that may be sent, in bytes
	promiscuous bool

	rx []*rxQueue
	tx []*txQueue

	// delivering counts receivers that are busy with a batch of frames and will
	// kick the transmit queues when they are done.
	delivering atomic.Int32

	// kernel are the kernel's counters as they were last.
	kernel atomic.Pointer[unix.XDPStatistics]
}

// New opens a device and returns an endpoint that is not attached yet. From then
// on the device's frames are the endpoint's, but for what Options.Filter leaves
// to the kernel. The error says in one line what is missing, be it a privilege
// (CapabilityError), a mode of the device or the device.
func New(opts Options) (*Endpoint, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if len(opts.FDs) != 0 {
		return adopt(&device{Device: *opts.Device, fds: opts.FDs}, opts)
	}
	d, err := prepareAny(&opts)
	if err != nil {
		return nil, err
	}
	e, err := adopt(d, opts)
	if err == nil {
		return e, nil
	}
	d.close()
	if d.Generic || opts.Mode != Auto || !isUnsupported(err) {
		return nil, err
	}
	// The driver takes the program, and then no socket.
	if d, err = prepare(&opts, true); err != nil {
		return nil, err
	}
	if e, err = adopt(d, opts); err != nil {
		d.close()
		return nil, err
	}
	return e, nil
}

// adopt makes an endpoint of d. On success the descriptors belong to it.
func adopt(d *device, opts Options) (*Endpoint, error) {
	if opts.MTU > d.MTU {
		return nil, fmt.Errorf("xdp: MTU %d is more than the %d of %s", opts.MTU, d.MTU, d.Name)
	}
	s, err := openSockets(d, &opts)
	if err != nil {
		return nil, err
	}
	return newEndpoint(d.Device, s, opts), nil
}

// newEndpoint makes an endpoint that owns s.
func newEndpoint(d Device, s *sockets, opts Options) *Endpoint {
	e := &Endpoint{device: d, options: opts, sockets: s, promiscuous: opts.Promiscuous}
	e.kernel.Store(new(unix.XDPStatistics))
	e.maxFrame = int(d.MTU) + header.EthernetMinimumSize
	if !s.sg {
		e.maxFrame = min(e.maxFrame, frameSize-vlanTagSize)
	}
	life := lifecycle.Config{Name: "xdp: " + d.Name, Release: e.release, OnFailure: opts.OnFailure}
	for i, k := range s.all {
		e.rx = append(e.rx, newRxQueue(e, k, newFrames(s.mem, s.rxFirst(i), s.frames)))
		e.tx = append(e.tx, newTxQueue(e, k, newFrames(s.mem, s.txFirst(i), s.frames)))
		life.Receivers = append(life.Receivers, e.rx[i].run)
		life.Waiters = append(life.Waiters, e.rx[i].waiter)
	}
	e.life.Init(life)
	mtu := opts.MTU
	if mtu == 0 {
		mtu = d.MTU
	}
	addr := opts.LinkAddress
	if addr == "" {
		addr = tcpip.LinkAddress(d.LinkAddress)
	}
	endpoint.Init(&e.base, &e.life, uint32(e.maxFrame-header.EthernetMinimumSize), mtu, addr)
	return e
}

// Name returns the name of the device.
func (e *Endpoint) Name() string { return e.device.Name }

// Mode returns how frames are exchanged: ZeroCopy, Copy or Generic.
func (e *Endpoint) Mode() Mode { return e.sockets.mode }

// Queues returns the receive queues of the device that the endpoint has.
func (e *Endpoint) Queues() []int {
	return append([]int(nil), e.device.Queues...)
}

// ScatterGather says whether frames may take more than one buffer of 4 KiB.
func (e *Endpoint) ScatterGather() bool { return e.sockets.sg }

// Capabilities implements stack.LinkEndpoint. Checksums of what is received are
// verified in the endpoint, where those that a sender on this machine left out
// can be told from wrong ones; those of what is sent are up to the stack.
func (*Endpoint) Capabilities() stack.LinkEndpointCapabilities {
	return stack.CapabilityResolutionRequired | stack.CapabilityRXChecksumOffload
}

// SupportedGSO implements stack.GSOEndpoint. The endpoint itself cuts segments
// and computes their checksums: XDP has no device that would.
func (e *Endpoint) SupportedGSO() stack.SupportedGSO {
	if e.options.NoOffload {
		return stack.GSONotSupported
	}
	return stack.HostGSOSupported
}

// release lets go of memory and descriptors. No receiver runs any more.
func (e *Endpoint) release() {
	for _, q := range e.tx {
		q.stop()
	}
	e.readKernel()
	e.sockets.close()
}

// errDeviceGone is reported when the kernel has taken the device away.
var errDeviceGone = errors.New("the device is gone")
