package adapter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/conformance/target"
)

// checkTUN returns an error that says what is missing for tunnels, or nil.
func checkTUN() error {
	if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
		return fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	if os.Geteuid() != 0 {
		return errors.New("a network namespace with a TUN device needs root")
	}
	return nil
}

// tunnel is a network namespace with a TUN device, whose file the process of an
// adapter holds. The other end, which is the kernel's, has no address, so that
// the kernel itself takes no part; a packet socket sees what the process sends,
// and what it sends the process reads.
type tunnel struct {
	// thread makes things happen in the namespace.
	thread chan func()
	index  int
	socket int
	buf    []byte
}

// name returns the name of the device.
func (*tunnel) name() string { return "tun0" }

// openTunnel makes a namespace with its device.
func openTunnel(cfg target.Config) (*tunnel, error) {
	t := &tunnel{thread: make(chan func()), socket: -1, buf: make([]byte, maxPacket)}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is no good for anything else
		err := unix.Unshare(unix.CLONE_NEWNET)
		entered <- err
		if err != nil {
			return
		}
		for f := range t.thread {
			f()
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	mtu := cfg.MTU
	if mtu == 0 {
		mtu = 1500
	}
	var err error
	t.inside(func() { err = t.setUp(mtu) })
	if err != nil {
		t.close()
		return nil, fmt.Errorf("set up a TUN device: %w", err)
	}
	return t, nil
}

// inside calls f on the thread that is in the namespace.
func (t *tunnel) inside(f func()) {
	done := make(chan struct{})
	t.thread <- func() {
		defer close(done)
		f()
	}
	<-done
}

// setUp makes the device, which stays when nobody holds it, and the socket. It
// runs inside.
func (t *tunnel) setUp(mtu int) error {
	// Without IPv6 at its end the kernel sends no router solicitations.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	link := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: t.name()}, Mode: netlink.TUNTAP_MODE_TUN, Flags: netlink.TUNTAP_NO_PI}
	if err := nl.LinkAdd(link); err != nil {
		return fmt.Errorf("make the device: %w", err)
	}
	dev, err := nl.LinkByName(t.name())
	if err != nil {
		return err
	}
	if err := errors.Join(nl.LinkSetMTU(dev, mtu), nl.LinkSetUp(dev)); err != nil {
		return err
	}
	t.index = dev.Attrs().Index
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(bigEndian(unix.ETH_P_ALL)))
	if err != nil {
		return fmt.Errorf("packet socket: %w", err)
	}
	t.socket = fd
	return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_ALL), Ifindex: t.index})
}

// bigEndian returns a protocol number as packet sockets want it.
func bigEndian(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}

// start starts a process in the namespace.
func (t *tunnel) start(cmd *exec.Cmd) (err error) {
	t.inside(func() { err = cmd.Start() })
	return err
}

// send makes a packet arrive at the process.
func (t *tunnel) send(packet []byte) error {
	if len(packet) == 0 {
		return errors.New("an empty packet")
	}
	to := &unix.SockaddrLinklayer{Protocol: bigEndian(unix.ETH_P_IP), Ifindex: t.index}
	if packet[0]>>4 == 6 {
		to.Protocol = bigEndian(unix.ETH_P_IPV6)
	}
	if err := unix.Sendto(t.socket, packet, 0, to); err != nil {
		return fmt.Errorf("write to the device: %w", err)
	}
	return nil
}

// receive returns the packets that the process has sent.
func (t *tunnel) receive() [][]byte {
	var out [][]byte
	for {
		n, from, err := unix.Recvfrom(t.socket, t.buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return out
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING && n > 0 {
			out = append(out, append([]byte(nil), t.buf[:n]...))
		}
	}
}

// wait waits for a packet, but not for longer than d.
func (t *tunnel) wait(d time.Duration) {
	ts := unix.NsecToTimespec(int64(max(d, 0)))
	// An error is a signal: the caller looks for itself.
	_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(t.socket), Events: unix.POLLIN}}, &ts, nil)
}

// close gives everything back: the namespace ends with its thread, and the
// device with the namespace.
func (t *tunnel) close() {
	if t.socket >= 0 {
		unix.Close(t.socket)
	}
	close(t.thread)
}
