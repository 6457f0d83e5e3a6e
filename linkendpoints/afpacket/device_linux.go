package afpacket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
)

// errDeviceGone is why an endpoint ends whose device does.
var errDeviceGone = errors.New("the device is gone")

// device is a set of bound sockets: what New needs to know of them, and
// nothing that an endpoint does.
type device struct {
	fds     []int
	rings   []ring
	ifindex int
	name    string
	addr    tcpip.LinkAddress // of the device
	mtu     uint32
}

// close closes all that d has opened.
func (d *device) close() {
	d.unmap()
	for _, fd := range d.fds {
		unix.Close(fd)
	}
}

// unmap lets go of the rings.
func (d *device) unmap() {
	for i := range d.rings {
		d.rings[i].unmap()
	}
}

// openDevice opens a socket for each queue on the device that o names.
func openDevice(o *Options) (*device, error) {
	d := &device{}
	for range max(o.Queues, 1) {
		// Protocol 0 receives nothing before bind.
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			d.close()
			return nil, explainSocket(o.Name, err)
		}
		d.fds = append(d.fds, fd)
	}
	index, err := interfaceIndex(d.fds[0], o.Name)
	if err != nil {
		d.close()
		return nil, fmt.Errorf("afpacket: device %s: %w", o.Name, err)
	}
	d.ifindex = index
	if err := d.setUp(o); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// explainSocket turns an error of socket(2) into a sentence that names the
// remedy.
func explainSocket(name string, err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return &CapabilityError{Capability: "CAP_NET_RAW", Op: "opening a packet socket on " + name, Err: err}
	case errors.Is(err, unix.EAFNOSUPPORT):
		return fmt.Errorf("afpacket: %w (the kernel needs CONFIG_PACKET)", os.NewSyscallError("socket", err))
	}
	return fmt.Errorf("afpacket: opening a packet socket on %s: %w", name, os.NewSyscallError("socket", err))
}

// adoptDevice sets up sockets that somebody else opened. They stay the
// caller's if it fails.
func adoptDevice(o *Options) (*device, error) {
	d := &device{fds: o.FDs}
	for _, fd := range d.fds {
		index, err := boundTo(fd)
		if err != nil {
			return nil, err
		}
		if d.ifindex != 0 && index != d.ifindex {
			return nil, fmt.Errorf("afpacket: descriptors %d and %d are bound to different devices", d.fds[0], fd)
		}
		d.ifindex = index
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, fmt.Errorf("afpacket: descriptor %d: %w", fd, err)
		}
	}
	if err := d.setUp(o); err != nil {
		d.unmap()
		return nil, err
	}
	return d, nil
}

// boundTo checks that fd is a packet socket and returns the index of its device.
func boundTo(fd int) (int, error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return 0, fmt.Errorf("afpacket: descriptor %d: %w", fd, os.NewSyscallError("getsockopt", err))
	}
	typ, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return 0, fmt.Errorf("afpacket: descriptor %d: %w", fd, os.NewSyscallError("getsockopt", err))
	}
	if domain != unix.AF_PACKET || typ != unix.SOCK_RAW {
		return 0, fmt.Errorf("afpacket: descriptor %d is not a packet socket of type SOCK_RAW", fd)
	}
	index, _, err := socketName(fd)
	if err != nil {
		return 0, fmt.Errorf("afpacket: descriptor %d: %w", fd, err)
	}
	if index <= 0 {
		return 0, fmt.Errorf("afpacket: descriptor %d is not bound to a device", fd)
	}
	return index, nil
}

// socketName returns the device and the protocol, in network byte order, that
// fd is bound to. The index is -1 if the device is gone.
func socketName(fd int) (index int, protocol uint16, err error) {
	var sa unix.RawSockaddrLinklayer
	size := uint32(unsafe.Sizeof(sa))
	_, _, errno := unix.Syscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)))
	if errno != 0 {
		return 0, 0, os.NewSyscallError("getsockname", errno)
	}
	return int(sa.Ifindex), sa.Protocol, nil
}

// setUp makes rings, binds and tells the device what to receive.
func (d *device) setUp(o *Options) error {
	if err := d.examine(); err != nil {
		return err
	}
	for _, fd := range d.fds {
		r, err := d.setUpSocket(fd, o)
		if err != nil {
			return fmt.Errorf("afpacket: %s: %w", d.name, err)
		}
		d.rings = append(d.rings, r)
	}
	if len(d.fds) > 1 {
		if err := d.joinFanout(); err != nil {
			return fmt.Errorf("afpacket: %s: %w", d.name, err)
		}
	}
	if err := d.joinGroups(o); err != nil {
		return fmt.Errorf("afpacket: %s: %w", d.name, err)
	}
	// Until the last socket joined the group, each received everything.
	for i := range d.rings {
		d.rings[i].discard(d.fds[i])
	}
	return nil
}

// setUpSocket sets the options of one socket and binds it.
func (d *device) setUpSocket(fd int, o *Options) (ring, error) {
	bypass := 0
	if o.QdiscBypass {
		bypass = 1
	}
	for _, opt := range []struct {
		name  string
		opt   int
		value int
	}{
		{"PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1},
		{"PACKET_VERSION", unix.PACKET_VERSION, unix.TPACKET_V2},
		{"PACKET_COPY_THRESH", unix.PACKET_COPY_THRESH, 1},
		{"PACKET_QDISC_BYPASS", unix.PACKET_QDISC_BYPASS, bypass},
	} {
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, opt.opt, opt.value); err != nil {
			return ring{}, os.NewSyscallError(opt.name, err)
		}
	}
	// Kernels before 4.20 do not know it; what we sent is dropped on the way
	// in as well.
	_ = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1)
	size := o.ringSize()
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size) != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size); err != nil {
			return ring{}, os.NewSyscallError("SO_RCVBUF", err)
		}
	}
	r, err := newRing(fd, size)
	if err != nil {
		return ring{}, err
	}
	if err := d.bind(fd); err != nil {
		r.unmap()
		return ring{}, err
	}
	return r, nil
}

// bind binds fd to the device and to all protocols, unless it is: a socket in a
// fanout group cannot be bound again.
func (d *device) bind(fd int) error {
	if index, protocol, err := socketName(fd); err == nil && index == d.ifindex && protocol == htons(unix.ETH_P_ALL) {
		return nil
	}
	err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: d.ifindex})
	if err != nil {
		return os.NewSyscallError("bind", err)
	}
	// The device is down, which need not stay so.
	_, _ = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	return nil
}

// joinFanout makes the sockets share the flows.
func (d *device) joinFanout() error {
	const mode = unix.PACKET_FANOUT_HASH | unix.PACKET_FANOUT_FLAG_IGNORE_OUTGOING
	if v, err := unix.GetsockoptInt(d.fds[0], unix.SOL_PACKET, unix.PACKET_FANOUT); err == nil && v != 0 {
		return nil // whoever opened the sockets made a group
	}
	id := 0
	for i, fd := range d.fds {
		flags := mode
		if i == 0 {
			flags |= unix.PACKET_FANOUT_FLAG_UNIQUEID
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT, id|flags<<16); err != nil {
			if errors.Is(err, unix.EINVAL) {
				return fmt.Errorf("%w (several queues need a device that is up)", os.NewSyscallError("PACKET_FANOUT", err))
			}
			return os.NewSyscallError("PACKET_FANOUT", err)
		}
		if i == 0 {
			v, err := unix.GetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
			if err != nil {
				return os.NewSyscallError("PACKET_FANOUT", err)
			}
			id = v & 0xffff
		}
	}
	return nil
}

// joinGroups tells the device which frames to receive. Its filter knows the
// groups of the kernel's stack only, so that without this no neighbour
// discovery would arrive.
func (d *device) joinGroups(o *Options) error {
	fd := d.fds[0]
	typ := uint16(unix.PACKET_MR_ALLMULTI)
	if o.Promiscuous {
		typ = unix.PACKET_MR_PROMISC
	}
	mreq := unix.PacketMreq{Ifindex: int32(d.ifindex), Type: typ}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq); err != nil {
		return os.NewSyscallError("PACKET_ADD_MEMBERSHIP", err)
	}
	if o.LinkAddress == "" || o.LinkAddress == d.addr || o.Promiscuous {
		return nil
	}
	return addUnicast(fd, d.ifindex, o.LinkAddress)
}

// addUnicast makes a device receive frames for another address too.
func addUnicast(fd, ifindex int, addr tcpip.LinkAddress) error {
	mreq := unix.PacketMreq{Ifindex: int32(ifindex), Type: unix.PACKET_MR_UNICAST, Alen: uint16(len(addr))}
	copy(mreq.Address[:], addr)
	err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &mreq)
	return os.NewSyscallError("PACKET_ADD_MEMBERSHIP", err)
}

// examine asks the kernel about the device. The ioctls work on the namespace of
// the socket, whatever that of the calling thread is.
func (d *device) examine() error {
	fd := d.fds[0]
	ifr, err := unix.NewIfreq("")
	if err != nil {
		return err
	}
	ifr.SetUint32(uint32(d.ifindex))
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFNAME, ifr); err != nil {
		return fmt.Errorf("afpacket: device %d: %w", d.ifindex, os.NewSyscallError("SIOCGIFNAME", err))
	}
	d.name = ifr.Name()
	if ifr, err = unix.NewIfreq(d.name); err != nil {
		return err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFMTU, ifr); err != nil {
		return fmt.Errorf("afpacket: %s: %w", d.name, os.NewSyscallError("SIOCGIFMTU", err))
	}
	d.mtu = min(ifr.Uint32(), frame.MaxIPSize)
	d.addr, err = hardwareAddress(fd, d.name)
	if err != nil {
		return fmt.Errorf("afpacket: %s: %w", d.name, err)
	}
	return nil
}

// interfaceIndex looks a device up in the namespace of the socket fd.
func interfaceIndex(fd int, name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, os.NewSyscallError("SIOCGIFINDEX", err)
	}
	return int(ifr.Uint32()), nil
}

// hardwareAddress reads the Ethernet address of a device.
func hardwareAddress(fd int, name string) (tcpip.LinkAddress, error) {
	// struct ifreq with a struct sockaddr, which unix.Ifreq gives no access to.
	var ifr struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		data   [14]byte
		_      [8]byte
	}
	copy(ifr.name[:unix.IFNAMSIZ-1], name)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFHWADDR, uintptr(unsafe.Pointer(&ifr)))
	runtime.KeepAlive(&ifr)
	if errno != 0 {
		return "", os.NewSyscallError("SIOCGIFHWADDR", errno)
	}
	if ifr.family != unix.ARPHRD_ETHER && ifr.family != unix.ARPHRD_LOOPBACK {
		return "", fmt.Errorf("not an Ethernet device (hardware type %d)", ifr.family)
	}
	return tcpip.LinkAddress(ifr.data[:6]), nil
}

// htons returns v in network byte order, as the socket API wants protocols.
func htons(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
