package linux

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/conformance/target"
)

// host is a network namespace with one TUN device. It implements
// [target.Target].
type host struct {
	opened time.Time
	// thread makes things happen in the namespace.
	thread chan func()
	tun    int
	buf    []byte
	out    []target.Packet

	files map[target.FD]*file
	ops   []*op
	// completed counts the calls that have ended, for RunUntil to notice.
	completed int
}

var (
	_ target.Target = (*host)(nil)
	_ target.Host   = (*host)(nil)
)

// Check returns an error that says what is missing to open instances, or nil.
func Check() error {
	if err := unix.Access("/dev/net/tun", unix.R_OK|unix.W_OK); err != nil {
		return fmt.Errorf("cannot open /dev/net/tun: %w", err)
	}
	done := make(chan error)
	go func() {
		// The thread is in another namespace from here on, and ends with
		// the goroutine, which does not unlock it.
		runtime.LockOSThread()
		done <- unix.Unshare(unix.CLONE_NEWNET)
	}()
	if err := <-done; err != nil {
		return fmt.Errorf("cannot make a network namespace, which needs root: %w", err)
	}
	return nil
}

// Version returns the name and the version of the kernel below, without what
// its builder has added: "Linux 6.18.1".
func Version() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "Linux"
	}
	release, _, _ := strings.Cut(unix.ByteSliceToString(u.Release[:]), "-")
	return "Linux " + release
}

// capabilities are those of the kernel below: AccECN came with a sysctl of its
// own.
func capabilities() target.Capabilities {
	_, err := os.Stat("/proc/sys/net/ipv4/tcp_ecn_option")
	return target.Capabilities{RealTime: true, ECN: true, FastOpen: true, MD5: true, AccECN: err == nil}
}

// device is the name of the TUN device in the namespace.
const device = "tun0"

// profile are the settings of a fresh namespace.
var profile = [][2]string{
	{"net.ipv6.conf.tun0.accept_dad", "0"},
	{"net.ipv6.conf.tun0.router_solicitations", "0"},
	{"net.ipv6.conf.tun0.addr_gen_mode", "1"},
	{"net.ipv4.conf.all.rp_filter", "0"},
	{"net.ipv4.conf.tun0.rp_filter", "0"},
	{"net.ipv4.tcp_congestion_control", "cubic"},
	{"net.ipv4.tcp_invalid_ratelimit", "0"},
	{"net.ipv4.tcp_no_metrics_save", "1"},
}

// open makes a namespace and the host in it.
func open(cfg target.Config) (target.Target, error) {
	if cfg.MTU == 0 {
		cfg.MTU = 1500
	}
	if cfg.Addrs == (target.Addrs{}) {
		cfg.Addrs = target.DefaultAddrs()
	}
	h := &host{thread: make(chan func()), tun: -1, buf: make([]byte, 1<<16), files: make(map[target.FD]*file)}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread is no good for anything else
		err := unix.Unshare(unix.CLONE_NEWNET)
		entered <- err
		if err != nil {
			return
		}
		_ = schedule(unix.SCHED_FIFO, 1) // as hurry
		for f := range h.thread {
			f()
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("make a network namespace, which needs root: %w", err)
	}
	var err error
	h.inside(func() { err = h.setUp(cfg) })
	if err != nil {
		h.release()
		return nil, fmt.Errorf("set up a namespace: %w", err)
	}
	hurry()
	h.opened = time.Now()
	return h, nil
}

// schedReset keeps threads that this one starts from inheriting its priority:
// SCHED_FLAG_RESET_ON_FORK.
const schedReset = 1

// hurry asks for real time: the goroutine keeps its thread, and the thread goes
// before all that is not urgent, so that a busy machine delays packets less.
// Where that is not allowed things stay as they are.
func hurry() {
	runtime.LockOSThread()
	_ = schedule(unix.SCHED_FIFO, 1)
}

// relax undoes hurry.
func relax() {
	_ = schedule(unix.SCHED_NORMAL, 0)
	runtime.UnlockOSThread()
}

// schedule sets how the calling thread is scheduled.
func schedule(policy, priority uint32) error {
	attr := unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: policy, Priority: priority, Flags: schedReset}
	return unix.SchedSetAttr(0, &attr, 0)
}

// Command implements [target.Host].
func (h *host) Command(dir, command string) error {
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Dir = dir
	// By this name tools of packetdrill's learn who runs the script.
	cmd.Env = append(os.Environ(), fmt.Sprintf("PACKETDRILL_PID=%d", os.Getpid()))
	var text []byte
	var err error
	h.inside(func() { text, err = cmd.CombinedOutput() })
	if err != nil {
		return fmt.Errorf("%w: %s", err, lastLine(text))
	}
	return nil
}

// lastLine returns the last line of a text that has one.
func lastLine(text []byte) string {
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// inside calls f on the thread that is in the namespace.
func (h *host) inside(f func()) {
	done := make(chan struct{})
	h.thread <- func() {
		defer close(done)
		f()
	}
	<-done
}

// setUp makes the device and gives it addresses and routes. It runs inside.
func (h *host) setUp(cfg target.Config) error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	h.tun = fd
	req, err := unix.NewIfreq(device)
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("make the device: %w", err)
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return err
	}
	link, err := nl.LinkByName(device)
	if err != nil {
		return err
	}
	for _, s := range profile {
		if err := writeSysctl(s[0], s[1]); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	if err := errors.Join(nl.LinkSetUp(lo), nl.LinkSetMTU(link, cfg.MTU)); err != nil {
		return err
	}
	for _, a := range []struct {
		addr netip.Addr
		bits int
	}{{cfg.Addrs.Local4, 16}, {cfg.Addrs.Local6, 64}} {
		addr := &netlink.Addr{
			IPNet: &net.IPNet{IP: a.addr.AsSlice(), Mask: net.CIDRMask(a.bits, a.addr.BitLen())},
			Flags: unix.IFA_F_NODAD,
		}
		if err := nl.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("add the address %v: %w", a.addr, err)
		}
	}
	if err := errors.Join(nl.LinkSetUp(link), awaitAddress(nl, cfg.Addrs.Local6)); err != nil {
		return err
	}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		_, dst, _ := net.ParseCIDR(all)
		if err := nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}); err != nil {
			return fmt.Errorf("add the route to %s: %w", all, err)
		}
	}
	// Pacing by the queue, which the default may do, is what scripts ask for
	// where they want it.
	queue := &netlink.GenericQdisc{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Parent: netlink.HANDLE_ROOT}, QdiscType: "pfifo"}
	if err := nl.QdiscReplace(queue); err != nil {
		return fmt.Errorf("choose the queue: %w", err)
	}
	// Scripts may change the route to the peer, so it has one of its own.
	for _, a := range []netip.Addr{cfg.Addrs.Remote4, cfg.Addrs.Remote6} {
		dst := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		if err := nl.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst}); err != nil {
			return fmt.Errorf("add the route to %v: %w", a, err)
		}
	}
	return nil
}

// awaitAddress waits until IPv6 takes its address for its own, which the kernel
// sees to in the background, even without looking for duplicates.
func awaitAddress(nl *netlink.Handle, addr netip.Addr) error {
	const patience = 2 * time.Second
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(nap) {
		routes, err := nl.RouteGet(addr.AsSlice())
		if err == nil && len(routes) > 0 && routes[0].Type == unix.RTN_LOCAL {
			return nil
		}
	}
	return fmt.Errorf("the host does not take %v for its own", addr)
}

// writeSysctl sets a sysctl of the namespace of the calling thread.
func writeSysctl(name, value string) error {
	path := "/proc/sys/" + strings.ReplaceAll(name, ".", "/")
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// Configure implements [target.Target].
func (h *host) Configure(name, value string) error {
	plain := strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_.") == "" && !strings.Contains(name, "..")
	if !plain || !strings.HasPrefix(name, "net.") {
		return target.Unsupportedf("sysctl %s", name)
	}
	var err error
	h.inside(func() { err = writeSysctl(name, value) })
	if err != nil {
		return &target.UnsupportedError{What: "sysctl " + name + "=" + value, Why: err.Error()}
	}
	return nil
}

// Now implements [target.Target].
func (h *host) Now() time.Duration { return time.Since(h.opened) }

// Inject implements [target.Target].
func (h *host) Inject(packet []byte) error {
	if _, err := unix.Write(h.tun, packet); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("write to the device: %w", err)
	}
	h.Settle()
	return nil
}

// Drain implements [target.Target].
func (h *host) Drain() []target.Packet {
	h.receive()
	out := h.out
	h.out = nil
	return out
}

// receive reads what the device has.
func (h *host) receive() {
	for {
		n, err := unix.Read(h.tun, h.buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		h.out = append(h.out, target.Packet{At: h.Now(), Data: append([]byte(nil), h.buf[:n]...)})
	}
}

// Settle implements [target.Target]. The kernel answers while a packet is
// written, or soon after; what comes later RunUntil finds.
func (h *host) Settle() {
	h.receive()
	h.retryOps()
}

// RunUntil implements [target.Target].
func (h *host) RunUntil(t time.Duration) time.Duration {
	completed := h.completed
	for {
		h.Settle()
		now := h.Now()
		if len(h.out) > 0 || h.completed != completed || now >= t {
			return now
		}
		h.poll(t - now)
	}
}

// nap is how long to wait at most for calls that poll(2) cannot wait for.
const nap = time.Millisecond

// poll waits for the device or for a descriptor that a call waits for.
func (h *host) poll(most time.Duration) {
	fds := []unix.PollFd{{Fd: int32(h.tun), Events: unix.POLLIN}}
	now := h.Now()
	for _, o := range h.ops {
		fds = append(fds, o.waits...)
		if o.waits == nil {
			most = min(most, nap)
		}
		if o.deadline > 0 {
			most = min(most, max(o.deadline-now, 0))
		}
	}
	ts := unix.NsecToTimespec(int64(most))
	// An error is a signal, or a descriptor that is gone: the caller looks
	// for itself.
	_, _ = unix.Ppoll(fds, &ts, nil)
}

// Close implements [target.Target].
func (h *host) Close() {
	h.release()
	relax()
}

// release gives back what the host holds.
func (h *host) release() {
	for fd, f := range h.files {
		if !f.epoll {
			_ = unix.Shutdown(int(fd), unix.SHUT_RDWR) // wakes who blocks in a call
			_ = unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
		}
		unix.Close(int(fd))
	}
	h.files, h.ops = nil, nil
	if h.tun >= 0 {
		unix.Close(h.tun)
	}
	close(h.thread)
}
