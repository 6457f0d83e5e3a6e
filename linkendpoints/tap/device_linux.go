package tap

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/linkendpoints/internal/frame"
	"github.com/plumbline/plumbline/linkendpoints/internal/vnet"
)

// cloneDevice is where TAP and TUN descriptors come from.
const cloneDevice = "/dev/net/tun"

// The flags of TUNSETOFFLOAD (linux/if_tun.h): what the kernel may leave to
// the reader of the descriptor.
const (
	tunFCsum = 0x01
	tunFTSO4 = 0x02
	tunFTSO6 = 0x04
)

// device is an opened device: what New needs to know of it, and nothing that
// an endpoint does. Tests make one from a socket pair.
type device struct {
	fds     []int
	name    string
	mode    Mode
	vnetHdr bool              // each frame is preceded by a virtio-net header
	addr    tcpip.LinkAddress // of the kernel's end; empty on TUN
	mtu     uint32            // 0 if unknown
}

// close closes all descriptors of d.
func (d *device) close() {
	for _, fd := range d.fds {
		unix.Close(fd)
	}
}

// openDevice opens the queues of the device that o names.
func openDevice(o *Options) (*device, error) {
	flags := uint16(unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if o.Mode == TUN {
		flags |= unix.IFF_TUN
	} else {
		flags |= unix.IFF_TAP
	}
	queues := max(o.Queues, 1)
	if queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	d := &device{name: o.Name, mode: o.Mode}
	for range queues {
		fd, name, err := openQueue(d.name, flags)
		if errors.Is(err, unix.EINVAL) && queues == 1 {
			// A persistent device that was made with several queues has to be
			// opened as such.
			fd, name, err = openQueue(d.name, flags|unix.IFF_MULTI_QUEUE)
		}
		if err != nil {
			d.close()
			return nil, explain(o, err)
		}
		d.fds = append(d.fds, fd)
		d.name = name
	}
	if err := d.examine(); err != nil {
		d.close()
		return nil, err
	}
	return d, nil
}

// openQueue opens one queue and returns the name that the kernel gave the
// device.
func openQueue(name string, flags uint16) (int, string, error) {
	fd, err := unix.Open(cloneDevice, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, "", &os.PathError{Op: "open", Path: cloneDevice, Err: err}
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		unix.Close(fd)
		return -1, "", err
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		unix.Close(fd)
		return -1, "", os.NewSyscallError("TUNSETIFF", err)
	}
	return fd, ifr.Name(), nil
}

// explain turns the errors that users meet into sentences that name the remedy.
func explain(o *Options, err error) error {
	var path *os.PathError
	isOpen := errors.As(err, &path)
	switch {
	case isOpen && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO)):
		return fmt.Errorf("tap: %w (the kernel needs CONFIG_TUN and the device node)", err)
	case isOpen && errors.Is(err, unix.EACCES):
		return fmt.Errorf("tap: %w (needs read and write permission)", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("tap: opening %s %s: %w (needs CAP_NET_ADMIN, or a device that belongs to this user)", o.Mode, o.Name, err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("tap: opening %s %s: %w (somebody else has it open)", o.Mode, o.Name, err)
	case errors.Is(err, unix.EINVAL):
		return fmt.Errorf("tap: opening %s %s: %w (there is an interface of that name and another kind)", o.Mode, o.Name, err)
	default:
		return fmt.Errorf("tap: opening %s %s: %w", o.Mode, o.Name, err)
	}
}

// adoptDevice examines descriptors that somebody else opened.
func adoptDevice(fds []int) (*device, error) {
	d := &device{fds: fds}
	for _, fd := range fds {
		if err := unix.SetNonblock(fd, true); err != nil {
			return nil, fmt.Errorf("tap: descriptor %d: %w", fd, err)
		}
	}
	if err := d.examine(); err != nil {
		return nil, err
	}
	return d, nil
}

// examine asks the kernel for what the descriptors are. All must be queues of
// one device.
func (d *device) examine() error {
	for i, fd := range d.fds {
		ifr, err := unix.NewIfreq("")
		if err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.TUNGETIFF, ifr); err != nil {
			return fmt.Errorf("tap: descriptor %d is not an attached TAP or TUN queue: %w", fd, os.NewSyscallError("TUNGETIFF", err))
		}
		// IFF_NO_PI cannot be checked: in an answer, its bit is IFF_NOFILTER.
		flags := ifr.Uint16()
		mode, vnetHdr := TAP, flags&unix.IFF_VNET_HDR != 0
		if flags&unix.IFF_TUN != 0 {
			mode = TUN
		}
		if i > 0 && (mode != d.mode || vnetHdr != d.vnetHdr || ifr.Name() != d.name) {
			return fmt.Errorf("tap: descriptors %d and %d are not queues of one device", d.fds[0], fd)
		}
		d.mode, d.vnetHdr, d.name = mode, vnetHdr, ifr.Name()
	}
	if d.mode == TAP {
		addr, err := hardwareAddress(d.fds[0])
		if err != nil {
			return fmt.Errorf("tap: reading the address of %s: %w", d.name, err)
		}
		d.addr = addr
	}
	d.mtu = deviceMTU(d.name)
	return nil
}

// configure sets what the kernel may leave to us. All of it outlives a close on
// a persistent device, so nothing may be left as it was found.
func (d *device) configure(offload bool) error {
	if !d.vnetHdr {
		return d.setOffload(0)
	}
	for _, fd := range d.fds {
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, vnet.HeaderSize); err != nil {
			return fmt.Errorf("tap: %w", os.NewSyscallError("TUNSETVNETHDRSZ", err))
		}
		if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETLE, 1); err != nil {
			return fmt.Errorf("tap: %w", os.NewSyscallError("TUNSETVNETLE", err))
		}
	}
	if offload {
		return d.setOffload(tunFCsum | tunFTSO4 | tunFTSO6)
	}
	return d.setOffload(0)
}

// setOffload sets the offloads of the device, which all queues share.
func (d *device) setOffload(flags int) error {
	if err := unix.IoctlSetInt(d.fds[0], unix.TUNSETOFFLOAD, flags); err != nil {
		return fmt.Errorf("tap: %w", os.NewSyscallError("TUNSETOFFLOAD", err))
	}
	return nil
}

// hardwareAddress reads the Ethernet address of the device behind fd. The
// ioctl works on the descriptor itself, whatever namespace the device is in.
func hardwareAddress(fd int) (tcpip.LinkAddress, error) {
	// struct ifreq with a struct sockaddr, which unix.Ifreq gives no access to.
	var ifr struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		data   [14]byte
		_      [8]byte
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCGIFHWADDR, uintptr(unsafe.Pointer(&ifr)))
	runtime.KeepAlive(&ifr)
	if errno != 0 {
		return "", os.NewSyscallError("SIOCGIFHWADDR", errno)
	}
	return tcpip.LinkAddress(ifr.data[:6]), nil
}

// deviceMTU returns the MTU of the named interface in this thread's network
// namespace, or 0 if there is none: the device may be elsewhere.
func deviceMTU(name string) uint32 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFMTU, ifr); err != nil {
		return 0
	}
	return min(ifr.Uint32(), frame.MaxIPSize)
}
