package runner

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// settings are what the option lines at the top of a script set, with the
// defaults of packetdrill.
type settings struct {
	tolerance        time.Duration
	tolerancePercent float64
	// mtu is that of the interface, or 0 for the default, which gives both
	// versions of IP the same segment size so that one script serves both.
	mtu         int
	bindPort    uint16
	connectPort uint16
	// tsTick is the length of a tick of the timestamp clock, at level
	// Strict; 0 does not compare timestamp values.
	tsTick time.Duration
	// strictSegments, at level Strict, does not join segments; at level RFC,
	// it does not cut those that are longer than the script has them.
	strictSegments bool
	addrs          target.Addrs
}

// defaultSettings are those of a script without option lines.
func defaultSettings() settings {
	return settings{
		tolerance:        4 * time.Millisecond,
		tolerancePercent: 12.5,
		bindPort:         8080,
		connectPort:      8080,
		addrs:            target.DefaultAddrs(),
	}
}

// firstEphemeralPort is the port of the first connection of the peer.
const firstEphemeralPort = 49152

// optionSetters apply the option lines that change a run, by name. They
// report whether the value is understood.
var optionSetters = map[string]func(s *settings, value string) bool{
	"tolerance_usecs": func(s *settings, v string) bool {
		n, err := strconv.ParseUint(v, 10, 32)
		s.tolerance = time.Duration(n) * time.Microsecond
		return err == nil
	},
	"tolerance_percent": func(s *settings, v string) (ok bool) {
		var err error
		s.tolerancePercent, err = strconv.ParseFloat(v, 64)
		return err == nil && s.tolerancePercent >= 0 && s.tolerancePercent <= 100
	},
	"mtu": func(s *settings, v string) (ok bool) {
		n, err := strconv.ParseUint(v, 10, 16)
		s.mtu = int(n)
		return err == nil && n >= 68
	},
	"bind_port":    func(s *settings, v string) bool { return setPort(&s.bindPort, v) },
	"connect_port": func(s *settings, v string) bool { return setPort(&s.connectPort, v) },
	"tcp_ts_tick_usecs": func(s *settings, v string) bool {
		n, err := strconv.ParseUint(v, 10, 32)
		s.tsTick = time.Duration(n) * time.Microsecond
		return err == nil
	},
	"strict_segments": func(s *settings, v string) bool { s.strictSegments = true; return v == "" },
	"local_ip":        func(s *settings, v string) bool { return setAddr(&s.addrs.Local4, &s.addrs.Local6, v) },
	"remote_ip":       func(s *settings, v string) bool { return setAddr(&s.addrs.Remote4, &s.addrs.Remote6, v) },
}

// optionsWithoutEffect are option lines that change nothing here: about
// output, about devices that there are none of, or about the version of IP,
// which the caller chooses.
var optionsWithoutEffect = map[string]bool{
	"verbose": true, "debug": true, "dry_run": true, "ip_version": true, "gateway_ip": true, "netmask_ip": true,
	"non_fatal": true, "init_scripts": true, "so_filename": true, "so_flags": true, "mss": true,
	"tcp_ts_ecr_scaled": true, "send_omit_free": true, "define": true, "D": true, "no_cleanup": true,
}

func setPort(p *uint16, v string) bool {
	n, err := strconv.ParseUint(v, 10, 16)
	*p = uint16(n)
	return err == nil && n != 0
}

// setAddr sets the address of the version that v has.
func setAddr(v4, v6 *netip.Addr, v string) bool {
	host, _, _ := strings.Cut(v, "/")
	a, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if a.Is4() {
		*v4 = a
	} else {
		*v6 = a
	}
	return true
}

// prepare reads the settings, checks that everything in the script can be
// done, opens the target and configures it.
func (r *run) prepare() error {
	r.settings = defaultSettings()
	if r.opt.Tolerance > 0 {
		r.tolerance = r.opt.Tolerance
	}
	if most, n := r.opt.MaxRealTime, Length(r.script); r.kind.Capabilities.RealTime && most > 0 && n > most {
		return &target.UnsupportedError{What: "a script of " + roundUp(n).String(), Why: "it would take as long, and the limit is " + most.String()}
	}
	r.files, r.vars, r.nextPort = make(map[int64]*file), make(map[string]int64), firstEphemeralPort
	if err := r.checkSupport(); err != nil {
		return err
	}
	if r.opt.Addrs != (target.Addrs{}) {
		r.addrs = r.opt.Addrs
	}
	for _, o := range r.script.Options {
		set, ok := optionSetters[o.Name]
		switch {
		case ok && set(&r.settings, o.Value):
		case ok:
			return target.Unsupportedf("the option --%s=%s", o.Name, o.Value)
		case !optionsWithoutEffect[o.Name]:
			return target.Unsupportedf("the option --%s", o.Name)
		}
	}
	r.freeBSD = forFreeBSD(r.script)
	r.readMTU()
	r.local, r.remote = r.addrs.Local4, r.addrs.Remote4
	if r.v6 {
		r.local, r.remote = r.addrs.Local6, r.addrs.Remote6
	}
	var err error
	ip := IPVersion(4)
	if r.v6 {
		ip = 6
	}
	r.target, err = r.kind.Open(target.Config{
		Seed:  seedOf(r.opt.Seed, r.script.Name, ip),
		MTU:   r.interfaceMTU(),
		Addrs: r.addrs,
	})
	if err != nil {
		return err
	}
	return r.configure()
}

// interfaceMTU is the MTU of the interface.
func (r *run) interfaceMTU() int {
	switch {
	case r.mtu != 0:
		return r.mtu
	case r.v6 && !r.freeBSD:
		return 1520
	default:
		return 1500
	}
}

// configure applies the option tags, then the commands before the first
// event.
func (r *run) configure() error {
	for _, o := range r.script.Tags.TargetOptions {
		if err := r.target.Configure(sysctlName(o.Name), o.Value); err != nil {
			return err
		}
	}
	for _, c := range r.script.Init {
		if err := r.command(c); err != nil {
			return err
		}
	}
	return nil
}

// sysctlName completes the name of an option tag: "tcp_sack" and "sack" stand
// for "net.ipv4.tcp_sack".
func sysctlName(name string) string {
	switch {
	case strings.Contains(name, "."):
		return name
	case strings.HasPrefix(name, "tcp_") || strings.HasPrefix(name, "ip_"):
		return "net.ipv4." + name
	default:
		return "net.ipv4.tcp_" + name
	}
}

// checkSupport looks for what makes a script unsupported before it starts.
func (r *run) checkSupport() error {
	for _, ev := range r.script.Events {
		if reason := ev.Action.Unsupported(); reason != "" {
			return &target.UnsupportedError{What: ev.Pos.String(), Why: reason}
		}
		for _, p := range packetsOf(ev.Action) {
			if what := r.missing(p); what != "" {
				return &target.UnsupportedError{What: ev.Pos.String(), Why: what}
			}
		}
	}
	return nil
}

// packetsOf returns the packets of an action.
func packetsOf(a script.Action) []*script.Packet {
	switch a := a.(type) {
	case *script.Packet:
		return []*script.Packet{a}
	case *script.Alternatives:
		return a.Packets
	}
	return nil
}

// missing names the extension of TCP that a packet needs and the target lacks,
// or returns "". What arrives needs nothing under the RFCs, since a TCP without
// an extension ignores its options; scripts for Linux rely on it all the same.
func (r *run) missing(p *script.Packet) string {
	linux := r.script.Tags.Profile == script.ProfileLinux
	if p.TCP == nil || p.Dir == script.Inbound && !linux {
		return ""
	}
	caps := r.kind.Capabilities
	if p.Dir == script.Outbound && !caps.ECN && (p.TCP.Flags&(script.ECE|script.CWR) != 0 || p.IP.ECN > script.NotECT) {
		return r.kind.Name + " has no ECN (RFC 3168)"
	}
	if p.TCP.ACE.Set && !caps.AccECN {
		return r.kind.Name + " has no AccECN (RFC 9768)"
	}
	if p.TCP.Flags&script.SYN != 0 && p.TCP.Len > 0 && !caps.FastOpen && linux {
		return r.kind.Name + " has no TCP Fast Open (RFC 7413)"
	}
	for _, o := range p.TCP.Options {
		switch {
		case (o.Kind == script.KindFastOpen || o.Kind == script.KindExperiment) && !caps.FastOpen:
			return r.kind.Name + " has no TCP Fast Open (RFC 7413)"
		case (o.Kind == script.KindAccECN0 || o.Kind == script.KindAccECN1) && !caps.AccECN:
			return r.kind.Name + " has no AccECN (RFC 9768)"
		case o.Kind == script.KindMD5 && !caps.MD5:
			return r.kind.Name + " has no TCP MD5 signatures (RFC 2385)"
		}
	}
	return ""
}

// Length is how long a script lasts, by what its times add up to: waits for
// "whenever" count for nothing.
func Length(s *script.Script) time.Duration {
	var at time.Duration
	for _, ev := range s.Events {
		t := ev.Time
		d := t.At
		if t.IsRange() || t.IsSpan() {
			d = max(t.At, t.End)
		}
		if t.IsRelative() {
			at += d
		} else {
			at = max(at, d)
		}
	}
	return at
}

// roundUp rounds to whole seconds.
func roundUp(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
