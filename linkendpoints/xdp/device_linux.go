//go:build amd64 || arm64

package xdp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
)

// Prepared is what New needs to make an endpoint without privileges, possibly in
// another process and network namespace.
type Prepared struct {
	// Device describes the device.
	Device Device
	// Files are for Options.FDs, in this order: the sockets, one for each of
	// Device.Queues, and then what keeps the program attached and the device's
	// receive filter open. The program is detached when all duplicates of the
	// latter are closed.
	Files []*os.File
}

// Close closes the files, as somebody does who has passed duplicates of them on.
func (p *Prepared) Close() {
	for _, f := range p.Files {
		f.Close()
	}
}

// Prepare does the part of New that takes privileges: it opens the sockets and
// attaches the program. It heeds Name, Queues, Mode, MTU, LinkAddress, BusyPoll,
// Filter and Promiscuous of opts.
func Prepare(opts Options) (*Prepared, error) {
	if err := opts.check(); err != nil {
		return nil, err
	}
	if opts.Name == "" {
		return nil, errors.New("xdp: no device name given")
	}
	d, err := prepareAny(&opts)
	if err != nil {
		return nil, err
	}
	p := &Prepared{Device: d.Device}
	for i, fd := range d.fds {
		name := "af_xdp"
		if i >= len(d.Queues) {
			name = "xdp"
		}
		p.Files = append(p.Files, os.NewFile(uintptr(fd), name+":"+d.Name))
	}
	return p, nil
}

// device is a Device with its descriptors: one socket for each queue, and
// whatever has to stay open.
type device struct {
	Device
	fds []int
}

// close closes all descriptors of d.
func (d *device) close() {
	for _, fd := range d.fds {
		unix.Close(fd)
	}
	d.fds = nil
}

// prepareAny prepares the device in the best mode that it accepts a program
// for.
func prepareAny(o *Options) (*device, error) {
	if o.Mode == Generic {
		return prepare(o, true)
	}
	d, err := prepare(o, false)
	if err == nil || o.Mode != Auto || !isUnsupported(err) {
		return d, err
	}
	return prepare(o, true)
}

// isUnsupported says whether err is the way in which drivers and the kernel
// refuse a mode: unlike EPERM, EBUSY or ENODEV, another mode may work.
func isUnsupported(err error) bool {
	for _, e := range []error{unix.EOPNOTSUPP, unix.EINVAL, unix.ENOSPC, unix.ERANGE, unix.E2BIG, unix.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// prepare opens sockets and attaches the program.
func prepare(o *Options, generic bool) (d *device, err error) {
	d = &device{}
	defer func() {
		if err != nil {
			d.close()
			d = nil
		}
	}()
	available, err := d.examine(o.Name)
	if err != nil {
		return d, err
	}
	d.Generic = generic
	d.PartialChecksums = d.PartialChecksums || generic
	if err = d.chooseQueues(o.Queues, available); err != nil {
		return d, err
	}
	if o.MTU > d.MTU {
		return d, fmt.Errorf("xdp: MTU %d is more than the %d of %s", o.MTU, d.MTU, d.Name)
	}
	for range d.Queues {
		fd, err := openSocket(o)
		if err != nil {
			return d, err
		}
		d.fds = append(d.fds, fd)
	}
	if err = d.attach(o); err != nil {
		return d, err
	}
	return d, d.openFilter(o)
}

// chooseQueues says which of the available queues get a socket.
func (d *device) chooseQueues(wanted []int, available int) error {
	if len(wanted) == 0 {
		for q := range min(available, maxQueues) {
			d.Queues = append(d.Queues, q)
		}
		return nil
	}
	for _, q := range wanted {
		if q >= available {
			return fmt.Errorf("xdp: %s has no receive queue %d, only %d queues", d.Name, q, available)
		}
	}
	d.Queues = wanted
	return nil
}

// openSocket opens an AF_XDP socket.
func openSocket(o *Options) (int, error) {
	fd, err := unix.Socket(unix.AF_XDP, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.EPERM):
		return -1, &CapabilityError{"CAP_NET_RAW", "opening a socket for " + o.Name, err}
	case errors.Is(err, unix.EAFNOSUPPORT):
		return -1, fmt.Errorf("xdp: %w (the kernel needs CONFIG_XDP_SOCKETS)", os.NewSyscallError("socket", err))
	case err != nil:
		return -1, fmt.Errorf("xdp: %w", os.NewSyscallError("socket", err))
	}
	// In copy mode, what is under way counts against the send buffer. It is
	// bounded by the number of frames anyway. Without CAP_NET_ADMIN it remains
	// what it is.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 64<<20)
	if o.BusyPoll == 0 {
		return fd, nil
	}
	if err := setBusyPoll(fd, o); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// busyPollBudget is how many frames the device may deliver in one busy poll.
const busyPollBudget = 64

// setBusyPoll makes system calls on fd poll the device.
func setBusyPoll(fd int, o *Options) error {
	for _, opt := range []struct{ name, value int }{
		{unix.SO_PREFER_BUSY_POLL, 1},
		{unix.SO_BUSY_POLL, int(max(o.BusyPoll.Microseconds(), 1))},
		{unix.SO_BUSY_POLL_BUDGET, busyPollBudget},
	} {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, opt.name, opt.value)
		switch {
		case errors.Is(err, unix.EPERM):
			return &CapabilityError{"CAP_NET_ADMIN", "busy polling of " + o.Name, err}
		case errors.Is(err, unix.ENOPROTOOPT):
			return fmt.Errorf("xdp: busy polling of %s: %w (needs Linux 5.11 and CONFIG_NET_RX_BUSY_POLL)", o.Name, err)
		case err != nil:
			return fmt.Errorf("xdp: busy polling of %s: %w", o.Name, err)
		}
	}
	return nil
}

// bpfError says what err of loading or attaching means.
func (d *device) bpfError(op string, err error) error {
	mode := "native"
	if d.Generic {
		mode = "generic"
	}
	switch {
	case errors.Is(err, unix.EPERM):
		return &CapabilityError{"CAP_BPF and CAP_NET_ADMIN outside any user namespace", op + " for " + d.Name, err}
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fmt.Errorf("xdp: %s for %s: %w (it has an XDP program already)", op, d.Name, err)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("xdp: %s for %s: %w (the driver has no %s XDP)", op, d.Name, err, mode)
	}
	return fmt.Errorf("xdp: %s for %s in %s mode: %w", op, d.Name, mode, err)
}

// attach loads the program, gives it the sockets and attaches it by a link,
// which becomes one of the descriptors. The program lives as long as the link,
// and the map as long as the program.
func (d *device) attach(o *Options) error {
	entries := uint32(0)
	for _, q := range d.Queues {
		entries = max(entries, uint32(q)+1)
	}
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{
		Name: "plumbline_xsks", Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: entries,
	})
	if err != nil {
		return d.bpfError("making a socket map", err)
	}
	defer sockets.Close()
	for i, q := range d.Queues {
		if err := sockets.Put(uint32(q), uint32(d.fds[i])); err != nil {
			return d.bpfError("filling a socket map", err)
		}
	}
	addr := o.LinkAddress
	if addr == "" {
		addr = tcpip.LinkAddress(d.LinkAddress)
	}
	// A program that lets frames of several buffers pass works for all, but old
	// kernels and some drivers refuse it.
	for _, d.Fragments = range []bool{true, false} {
		var fd int
		if fd, err = d.link(&o.Filter, addr, sockets); err == nil {
			d.fds = append(d.fds, fd)
			return nil
		}
		if !isUnsupported(err) {
			break
		}
	}
	return err
}

// link loads the program and attaches it.
func (d *device) link(f *Filter, addr tcpip.LinkAddress, sockets *ebpf.Map) (int, error) {
	prog, err := loadProgram(f, addr, sockets, d.Fragments)
	if err != nil {
		return -1, d.bpfError("loading the program", err)
	}
	defer prog.Close()
	flags := link.XDPDriverMode
	if d.Generic {
		flags = link.XDPGenericMode
	}
	l, err := link.AttachXDP(link.XDPOptions{Program: prog, Interface: d.Index, Flags: flags})
	if err != nil {
		return -1, d.bpfError("attaching the program", err)
	}
	defer l.Close()
	holder, ok := l.(interface{ FD() int })
	if !ok {
		return -1, fmt.Errorf("xdp: a link of type %T has no descriptor", l)
	}
	fd, err := unix.FcntlInt(uintptr(holder.FD()), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("xdp: %w", os.NewSyscallError("fcntl", err))
	}
	return fd, nil
}

// openFilter opens a socket that makes the device receive what the netstack
// wants: all multicast, since the kernel does not know to which groups the
// netstack belongs, and its link address or all. The socket itself receives
// nothing.
func (d *device) openFilter(o *Options) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("xdp: %w", os.NewSyscallError("socket", err))
	}
	d.fds = append(d.fds, fd)
	want := []unix.PacketMreq{{Type: unix.PACKET_MR_ALLMULTI}}
	if o.Promiscuous {
		want = append(want, unix.PacketMreq{Type: unix.PACKET_MR_PROMISC})
	}
	if o.LinkAddress != "" && o.LinkAddress != tcpip.LinkAddress(d.LinkAddress) {
		m := unix.PacketMreq{Type: unix.PACKET_MR_UNICAST, Alen: uint16(len(o.LinkAddress))}
		copy(m.Address[:], o.LinkAddress)
		want = append(want, m)
	}
	for _, m := range want {
		m.Ifindex = int32(d.Index)
		if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
			return fmt.Errorf("xdp: receive filter of %s: %w", d.Name, err)
		}
	}
	return nil
}

// examine reads the properties of the named device and the number of its
// receive queues.
func (d *device) examine(name string) (queues int, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("xdp: %w", os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	d.Name = name
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, fmt.Errorf("xdp: device name %q: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("xdp: device %s: %w", name, err)
	}
	d.Index = int(ifr.Uint32())
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFMTU, ifr); err != nil {
		return 0, fmt.Errorf("xdp: MTU of %s: %w", name, err)
	}
	d.MTU = min(ifr.Uint32(), maxMTU)
	if d.LinkAddress, err = hardwareAddress(fd, name); err != nil {
		return 0, err
	}
	if info, err := unix.IoctlGetEthtoolDrvinfo(fd, name); err == nil {
		d.PartialChecksums = unix.ByteSliceToString(info.Driver[:]) == "veth"
	}
	return receiveQueues(fd, name), nil
}

// ifreq is struct ifreq (linux/if.h) with room for what unix.Ifreq gives no
// access to.
type ifreq struct {
	name [unix.IFNAMSIZ]byte
	data [24]byte
}

// ioctl makes a request about the device that r names.
func (r *ifreq) ioctl(fd int, request uintptr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(r)))
	runtime.KeepAlive(r)
	if errno != 0 {
		return errno
	}
	return nil
}

// hardwareAddress reads the address of an Ethernet device.
func hardwareAddress(fd int, name string) ([]byte, error) {
	var r ifreq
	copy(r.name[:unix.IFNAMSIZ-1], name)
	if err := r.ioctl(fd, unix.SIOCGIFHWADDR); err != nil {
		return nil, fmt.Errorf("xdp: address of %s: %w", name, err)
	}
	// A struct sockaddr: the kind of device, then its address.
	if kind := *(*uint16)(unsafe.Pointer(&r.data)); kind != unix.ARPHRD_ETHER {
		return nil, fmt.Errorf("xdp: %s is no Ethernet device (its type is %d)", name, kind)
	}
	return r.data[2:8], nil
}

// ethtoolChannels is struct ethtool_channels (linux/ethtool.h).
type ethtoolChannels struct {
	cmd                                         uint32
	maxRx, maxTx, maxOther, maxCombined         uint32
	rxCount, txCount, otherCount, combinedCount uint32
}

// receiveQueues returns the number of receive queues of a device: 1 if its
// driver does not tell.
func receiveQueues(fd int, name string) int {
	channels := &ethtoolChannels{cmd: unix.ETHTOOL_GCHANNELS}
	var r struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(r.name[:unix.IFNAMSIZ-1], name)
	r.data = unsafe.Pointer(channels)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&r)))
	runtime.KeepAlive(channels)
	if errno != 0 {
		return 1
	}
	return max(int(channels.rxCount)+int(channels.combinedCount), 1)
}
