package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/ext/capture"
	"github.com/plumbline/plumbline/internal/proxy"
)

// proxyFlags are the flags of `plumbline proxy` as given.
type proxyFlags struct {
	link        string
	linkAddress string
	mtu         uint32
	queues      int
	noOffload   bool
	addresses   []string
	gateways    []string
	listen      []string
	to          []string
	dial        []string
	stack       string
	congestion  string
	pcapng      string
	snapLength  uint32

	rotateSize     float64 // MB
	rotateInterval time.Duration
	rotateCount    int

	grace   time.Duration
	verbose bool
}

// newProxyCommand builds `plumbline proxy`.
func newProxyCommand() *cobra.Command {
	var f proxyFlags
	cmd := &cobra.Command{
		Use:   "proxy --link KIND:NAME --address CIDR {--listen PORT --to HOST:PORT | --dial PORT=ADDR:PORT}...",
		Short: "Terminate TCP in a netstack on a real device and relay it to the host",
		Long: `Proxy runs a netstack on a TAP or TUN device, or on an Ethernet device by
packet sockets or AF_XDP, and relays TCP connections between it and sockets of
the host.

--listen and --to belong together, in order: connections to that port of the
netstack go to the host's HOST:PORT. --dial is the other direction: connections
to the host's [HOST:]PORT go through the netstack to ADDR:PORT. All three may
be repeated. Half-closes are relayed; when one side is reset, so is the other.

A TAP or TUN device is created if it does not exist, which takes
CAP_NET_ADMIN. Its other end is an interface of the kernel, to be configured
with ip(8) before or after. With afpacket, the netstack sees what the kernel
sees, and with xdp it takes over what the device receives: use a device that
the kernel has no address on.

SIGUSR1 prints statistics. SIGINT and SIGTERM stop accepting, give connections
--grace to end, reset the rest and print statistics; a second one kills.`,
		Example: `  # Who connects to port 80 of 10.9.0.2 gets what listens on port 8080 here.
  plumbline proxy --link tap:tap0 --address 10.9.0.2/24 --listen 80 --to 127.0.0.1:8080 &
  ip address add 10.9.0.1/24 dev tap0 && ip link set tap0 up
  curl http://10.9.0.2/

  # Who connects to port 2222 here reaches 10.9.0.1 through the netstack.
  plumbline proxy --link tap:tap0 --address 10.9.0.2/24 --dial 2222=10.9.0.1:22

  # Two IP versions, everything recorded.
  plumbline proxy --link tun:tun0 --address 10.9.0.2/24 --address fd09::2/64 \
      --listen 5201 --to localhost:5201 --pcapng trace.pcapng`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runProxy(cmd.Context(), &f, cmd.ErrOrStderr())
		},
	}
	fl := cmd.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.link, "link", "", "device, as tap:NAME, tun:NAME, afpacket:NAME or xdp:NAME")
	fl.StringArrayVar(&f.addresses, "address", nil, "address of the netstack with its prefix length (repeatable)")
	fl.StringArrayVar(&f.gateways, "gateway", nil, "router of everything else (one for each IP version)")
	fl.StringArrayVar(&f.listen, "listen", nil, "[ADDR:]PORT of the netstack to accept on (repeatable)")
	fl.StringArrayVar(&f.to, "to", nil, "HOST:PORT that the --listen in the same place relays to (repeatable)")
	fl.StringArrayVar(&f.dial, "dial", nil, "[HOST:]PORT=ADDR:PORT: accept on the host, connect through the netstack (repeatable)")
	fl.StringVar(&f.stack, "stack", proxy.Transports()[0], "TCP implementation: "+strings.Join(proxy.Transports(), " or "))
	fl.StringVar(&f.congestion, "congestion", "", "congestion control algorithm (default: the stack's)")
	fl.Uint32Var(&f.mtu, "mtu", 0, "MTU of the netstack's end in bytes (default: that of the device)")
	fl.StringVar(&f.linkAddress, "link-address", "", "Ethernet address of the netstack's end (default: derived from the device's, or the same with afpacket and xdp)")
	fl.IntVar(&f.queues, "queues", 0, "queues of the device (default: 1, or all that there are with xdp)")
	fl.BoolVar(&f.noOffload, "no-offload", false, "turn segmentation and checksum offloads off")
	fl.StringVar(&f.pcapng, "pcapng", "", "file to record all packets to")
	fl.Uint32Var(&f.snapLength, "snap-length", capture.DefaultSnapLength, "bytes of each packet to record")
	fl.Float64Var(&f.rotateSize, "pcapng-size", 0, "record to FILE.000001.pcapng and so on, each of so many MB (10^6 bytes) at most")
	fl.DurationVar(&f.rotateInterval, "pcapng-interval", 0, "the same, each of so much time at most")
	fl.IntVar(&f.rotateCount, "pcapng-files", 0, "how many of these files are kept (default: all)")
	fl.DurationVar(&f.grace, "grace", 3*time.Second, "how long connections may go on after SIGINT or SIGTERM")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "log every connection")
	for _, name := range []string{"link", "address"} {
		_ = cmd.MarkFlagRequired(name)
	}
	_ = cmd.RegisterFlagCompletionFunc("stack", cobra.FixedCompletions(proxy.Transports(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// runProxy runs a proxy until ctx ends, a signal arrives or the device fails.
func runProxy(ctx context.Context, f *proxyFlags, stderr io.Writer) error {
	config, err := f.config()
	if err != nil {
		return err
	}
	spec, err := f.linkSpec()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, endSignals...)
	defer stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)

	device, err := openLink(spec, func(err error) { fail(&deviceError{err}) })
	if err != nil {
		return err
	}
	config.Link = device
	report := []func(io.Writer){device.report}
	if f.pcapng != "" {
		recorded, err := record(device, f)
		if err != nil {
			device.Close()
			return err
		}
		if recorded.file != nil {
			defer recorded.file.Close()
		}
		config.Link = recorded
		report = append(report, recorded.report)
	}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	config.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: withoutTime}))

	p, err := proxy.New(*config)
	if err != nil {
		config.Link.Close()
		var wrong *proxy.ConfigError
		if errors.As(err, &wrong) {
			return usageErrorf("proxy: %w", err)
		}
		return fmt.Errorf("proxy: %w", err)
	}
	config.Log.Info("running", "device", device.name(), "address", device.LinkAddress().String(), "mtu", device.MTU())

	printStats := func() {
		_ = p.Stats().Print(stderr)
		for _, r := range report {
			r(stderr)
		}
	}
	untilDone(ctx, printStats)
	stop() // the next signal is not caught
	var broken *deviceError
	if !errors.As(context.Cause(ctx), &broken) {
		config.Log.Info("stopping", "active", p.Stats().Active, "grace", f.grace)
		grace, cancel := context.WithTimeout(context.Background(), f.grace)
		if err := p.Shutdown(grace); err != nil {
			config.Log.Warn("connections are reset", "active", p.Stats().Active)
		}
		cancel()
	}
	p.Close()
	printStats()
	if broken != nil {
		return broken
	}
	return nil
}

// deviceError is the end of the device under a running proxy.
type deviceError struct{ err error }

// Error implements error.
func (e *deviceError) Error() string { return "proxy: " + e.err.Error() }

// Unwrap gives errors.Is and errors.As the cause.
func (e *deviceError) Unwrap() error { return e.err }

// untilDone waits for ctx to end and prints statistics whenever asked to.
func untilDone(ctx context.Context, printStats func()) {
	ask := make(chan os.Signal, 1)
	signal.Notify(ask, statsSignals...)
	defer signal.Stop(ask)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ask:
			printStats()
		}
	}
}

// withoutTime leaves the time out of log lines: whoever wants it has a
// supervisor that adds it.
func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

// recording is a link that is recorded to a file, or to a row of them.
type recording struct {
	*capture.Endpoint
	file *os.File // nil for a row, which closes its own
}

// record starts to record link.
func record(link stack.LinkEndpoint, f *proxyFlags) (*recording, error) {
	_, name, _ := strings.Cut(f.link, ":")
	opts := capture.Options{Name: name, SnapLength: f.snapLength}
	if f.rotateSize != 0 || f.rotateInterval != 0 || f.rotateCount != 0 {
		ep, err := capture.NewFiles(link, capture.Files{
			Path: f.pcapng, Size: int64(f.rotateSize * 1e6), Interval: f.rotateInterval, Count: f.rotateCount,
		}, opts)
		if err != nil {
			return nil, usageErrorf("proxy: --pcapng: %w", err)
		}
		return &recording{ep, nil}, nil
	}
	file, err := os.Create(f.pcapng)
	if err != nil {
		return nil, usageErrorf("proxy: --pcapng: %w", err)
	}
	ep, err := capture.New(link, file, opts)
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return &recording{ep, file}, nil
}

// report prints the statistics of the recording.
func (r *recording) report(w io.Writer) {
	s := r.Stats()
	fmt.Fprintf(w, "capture:     %d packets in, %d out, %d truncated, %d left out\n", s.Inbound, s.Outbound, s.Truncated, s.Dropped)
	if err := r.Err(); err != nil {
		fmt.Fprintf(w, "             incomplete: %v\n", err)
	}
}

// linkSpec is what openLink opens.
type linkSpec struct {
	kind, name string
	address    tcpip.LinkAddress
	mtu        uint32
	queues     int
	noOffload  bool
}

// linkKinds are the values that --link may begin with.
var linkKinds = []string{"tap", "tun", "afpacket", "xdp"}

// linkSpec parses the flags of the device.
func (f *proxyFlags) linkSpec() (linkSpec, error) {
	spec := linkSpec{mtu: f.mtu, queues: f.queues, noOffload: f.noOffload}
	var ok bool
	spec.kind, spec.name, ok = strings.Cut(f.link, ":")
	if !ok || spec.name == "" || !slices.Contains(linkKinds, spec.kind) {
		return spec, usageErrorf("proxy: --link %q is not KIND:NAME with a KIND of %s", f.link, strings.Join(linkKinds, ", "))
	}
	if f.queues < 0 {
		return spec, usageErrorf("proxy: --queues %d, want at least 1, or 0 for the default", f.queues)
	}
	if f.linkAddress != "" {
		mac, err := net.ParseMAC(f.linkAddress)
		if err != nil || len(mac) != 6 {
			return spec, usageErrorf("proxy: --link-address %q is not an Ethernet address", f.linkAddress)
		}
		spec.address = tcpip.LinkAddress(mac)
	}
	return spec, nil
}

// config parses the flags of the proxy proper.
func (f *proxyFlags) config() (*proxy.Config, error) {
	if f.pcapng == "" && (f.rotateSize != 0 || f.rotateInterval != 0 || f.rotateCount != 0) {
		return nil, usageErrorf("proxy: --pcapng-size, --pcapng-interval and --pcapng-files need --pcapng")
	}
	c := &proxy.Config{Transport: f.stack, Congestion: f.congestion}
	for _, s := range f.addresses {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, usageErrorf("proxy: --address %q is not an address with a prefix length, like 10.9.0.2/24", s)
		}
		c.Addresses = append(c.Addresses, p)
	}
	for _, s := range f.gateways {
		a, err := netip.ParseAddr(s)
		if err != nil || a.Zone() != "" {
			return nil, usageErrorf("proxy: --gateway %q is not an IP address", s)
		}
		c.Gateways = append(c.Gateways, a)
	}
	if len(f.listen) != len(f.to) {
		return nil, usageErrorf("proxy: %d times --listen and %d times --to, each needs the other", len(f.listen), len(f.to))
	}
	for i, s := range f.listen {
		addr, err := parseListen(s)
		if err != nil {
			return nil, usageErrorf("proxy: --listen %q: %w", s, err)
		}
		if err := checkHostPort(f.to[i]); err != nil {
			return nil, usageErrorf("proxy: --to %q: %w", f.to[i], err)
		}
		c.Listen = append(c.Listen, proxy.ListenRule{Listen: addr, To: f.to[i]})
	}
	for _, s := range f.dial {
		r, err := parseDial(s)
		if err != nil {
			return nil, usageErrorf("proxy: --dial %q: %w", s, err)
		}
		c.Dial = append(c.Dial, r)
	}
	if len(c.Listen)+len(c.Dial) == 0 {
		return nil, usageErrorf("proxy: neither --listen with --to nor --dial given")
	}
	return c, nil
}

// parsePort parses a port, 0 included.
func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return uint16(n), nil
}

// parseListen parses PORT or ADDR:PORT.
func parseListen(s string) (netip.AddrPort, error) {
	if !strings.Contains(s, ":") {
		port, err := parsePort(s)
		return netip.AddrPortFrom(netip.Addr{}, port), err
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return ap, errors.New("want PORT or ADDR:PORT")
	}
	return ap, nil
}

// checkHostPort checks the form of HOST:PORT, without looking HOST up.
func checkHostPort(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" {
		return errors.New("want HOST:PORT")
	}
	n, err := parsePort(port)
	if err == nil && n == 0 {
		err = errors.New("port 0 cannot be connected to")
	}
	return err
}

// parseDial parses [HOST:]PORT=ADDR:PORT. Without HOST it is the loopback
// address: a proxy should not be open to the network by accident.
func parseDial(s string) (proxy.DialRule, error) {
	var r proxy.DialRule
	local, remote, ok := strings.Cut(s, "=")
	if !ok {
		return r, errors.New("want [HOST:]PORT=ADDR:PORT")
	}
	if !strings.Contains(local, ":") {
		local = net.JoinHostPort("127.0.0.1", local)
	}
	_, port, err := net.SplitHostPort(local)
	if err != nil {
		return r, errors.New("want [HOST:]PORT=ADDR:PORT")
	}
	if _, err := parsePort(port); err != nil {
		return r, err
	}
	to, err := netip.ParseAddrPort(remote)
	if err != nil || to.Addr().Zone() != "" {
		return r, fmt.Errorf("%q is not ADDR:PORT", remote)
	}
	return proxy.DialRule{Listen: local, To: to}, nil
}
