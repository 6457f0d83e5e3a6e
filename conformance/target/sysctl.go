package target

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// tcpSysctl is the prefix of the names of the settings of TCP.
const tcpSysctl = "net.ipv4.tcp_"

// Configure implements [Target].
func (n *netstack) Configure(name, value string) error {
	value = strings.Join(strings.Fields(value), " ")
	if done, err := n.reopen(name, value); done {
		return err
	}
	if n.reconfigure != nil {
		if done, err := n.reconfigure(n, name, value); done {
			return err
		}
	}
	if err := n.set(name, value); err != nil {
		return err
	}
	n.configured = append(n.configured, [2]string{name, value})
	return nil
}

// set changes a setting of the stack as it is.
func (n *netstack) set(name, value string) error {
	unsupported := Unsupportedf("sysctl %s=%s", name, value)
	short, isTCP := strings.CutPrefix(name, tcpSysctl)
	if !isTCP {
		if name == "net.ipv4.ip_default_ttl" {
			return n.setDefaultTTL(value)
		}
		if slices.Contains(settled[name], value) {
			return nil
		}
		return unsupported
	}
	if short == "invalid_ratelimit" {
		return n.setInvalidRateLimit(value)
	}
	if p, ok := n.proto.(Sysctls); ok {
		err := p.SetSysctl("tcp_"+short, value)
		if err == nil {
			return nil
		}
		if _, unknown := err.(*tcpip.ErrUnknownProtocolOption); !unknown {
			return unsupported
		}
	}
	if set, ok := sysctls[short]; ok {
		switch opt, known := set(value); {
		case !known:
			return unsupported
		case n.setProtocolOption(opt) != nil:
			return unsupported
		}
		return nil
	}
	if slices.Contains(settled[name], value) || withoutEffect[name] {
		return nil
	}
	return unsupported
}

// setInvalidRateLimit sets how many milliseconds lie between two challenge ACKs.
func (n *netstack) setInvalidRateLimit(value string) error {
	ms, ok := number(value)
	if !ok {
		return Unsupportedf("sysctl net.ipv4.tcp_invalid_ratelimit=%s", value)
	}
	if err := n.stack.SetOption(stack.TCPInvalidRateLimitOption(time.Duration(ms) * time.Millisecond)); err != nil {
		return Unsupportedf("sysctl net.ipv4.tcp_invalid_ratelimit: %v", err)
	}
	return nil
}

// setDefaultTTL sets the time to live of both versions of IP.
func (n *netstack) setDefaultTTL(value string) error {
	ttl, err := strconv.ParseUint(value, 10, 8)
	if err != nil {
		return Unsupportedf("sysctl net.ipv4.ip_default_ttl=%s", value)
	}
	opt := tcpip.DefaultTTLOption(ttl)
	for _, proto := range []tcpip.NetworkProtocolNumber{header.IPv4ProtocolNumber, header.IPv6ProtocolNumber} {
		if err := n.stack.SetNetworkProtocolOption(proto, &opt); err != nil {
			return Unsupportedf("sysctl net.ipv4.ip_default_ttl: %v", err)
		}
	}
	return nil
}

// sysctls turns the settings that netstack has types for, named without
// net.ipv4.tcp_, into options of the protocol.
var sysctls = map[string]func(value string) (tcpip.SettableTransportProtocolOption, bool){
	"sack": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPSACKEnabled(i != 0)
		return &opt, ok
	},
	"moderate_rcvbuf": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPModerateReceiveBufferOption(i != 0)
		return &opt, ok
	},
	"congestion_control": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		opt := tcpip.CongestionControlOption(v)
		return &opt, true
	},
	"recovery": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPRecovery(i)
		return &opt, ok
	},
	"rmem": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		low, def, high, ok := triple(v)
		return &tcpip.TCPReceiveBufferSizeRangeOption{Min: low, Default: def, Max: high}, ok
	},
	"wmem": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		low, def, high, ok := triple(v)
		return &tcpip.TCPSendBufferSizeRangeOption{Min: low, Default: def, Max: high}, ok
	},
	"fin_timeout": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPLingerTimeoutOption(time.Duration(i) * time.Second)
		return &opt, ok
	},
	"tw_reuse": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPTimeWaitReuseOption(i)
		return &opt, ok
	},
	"syn_retries": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPSynRetriesOption(i)
		return &opt, ok && i <= 255
	},
	"retries2": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPMaxRetriesOption(i)
		return &opt, ok
	},
	"rto_min_us": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPMinRTOOption(time.Duration(i) * time.Microsecond)
		return &opt, ok
	},
	"rto_max_ms": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		i, ok := number(v)
		opt := tcpip.TCPMaxRTOOption(time.Duration(i) * time.Millisecond)
		return &opt, ok
	},
	// Only 1 and 2 are a choice that netstack offers: cookies when the
	// backlog is full, or always.
	"syncookies": func(v string) (tcpip.SettableTransportProtocolOption, bool) {
		opt := tcpip.TCPAlwaysUseSynCookies(v == "2")
		return &opt, v == "1" || v == "2"
	},
}

// settled lists the settings that describe what a netstack does anyway, or
// that choose a default that no packet shows: these values change nothing.
// Any other value is unsupported.
var settled = map[string][]string{
	"net.ipv4.tcp_timestamps":                     {"1"},
	"net.ipv4.tcp_window_scaling":                 {"1"},
	"net.ipv4.tcp_dsack":                          {"1"},
	"net.ipv4.tcp_fack":                           {"0"},
	"net.ipv4.tcp_ecn":                            {"0", "2"},
	"net.ipv4.tcp_ecn_option":                     {"0", "1", "2"},
	"net.ipv4.tcp_ecn_fallback":                   {"0", "1"},
	"net.ipv4.tcp_frto":                           {"0", "2"},
	"net.ipv4.tcp_reordering":                     {"3"},
	"net.ipv4.tcp_mtu_probing":                    {"0"},
	"net.ipv4.tcp_early_retrans":                  {"3", "4"},
	"net.ipv4.tcp_slow_start_after_idle":          {"1"},
	"net.ipv4.tcp_no_metrics_save":                {"0", "1"},
	"net.ipv4.tcp_pacing_ss_ratio":                {"200"},
	"net.ipv4.tcp_pacing_ca_ratio":                {"120"},
	"net.ipv4.tcp_notsent_lowat":                  {"4294967295", "-1"},
	"net.ipv4.tcp_fastopen":                       {"0", "0x70403", "0x70402", "0x70400", "1", "3"},
	"net.ipv4.tcp_fastopen_key":                   {"a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4"},
	"net.ipv4.tcp_fastopen_blackhole_timeout_sec": {"0"},
	"net.ipv4.tcp_synack_retries":                 {"5"},
	"net.ipv4.tcp_abort_on_overflow":              {"0"},
	"net.ipv4.tcp_rfc1337":                        {"1"},
	"net.ipv4.tcp_plb_enabled":                    {"0"},
	"net.ipv4.tcp_shrink_window":                  {"0"},
	"net.ipv4.tcp_stdurg":                         {"0"},
	"net.ipv4.tcp_workaround_signed_windows":      {"0"},
}

// withoutEffect are settings about how Linux builds super-segments for offload,
// which no packet shows.
var withoutEffect = map[string]bool{
	"net.ipv4.tcp_min_tso_segs":    true,
	"net.ipv4.tcp_tso_win_divisor": true,
	"net.ipv4.tcp_autocorking":     true,
}

// number reads a setting with one number, in any base that sysctl takes.
func number(v string) (int64, bool) {
	i, err := strconv.ParseUint(v, 0, 31)
	return int64(i), err == nil
}

// triple reads a setting with three sizes: minimum, default and maximum.
func triple(v string) (low, def, high int, ok bool) {
	f := strings.Fields(v)
	if len(f) != 3 {
		return 0, 0, 0, false
	}
	var n [3]int64
	for i := range f {
		if n[i], ok = number(f[i]); !ok {
			return 0, 0, 0, false
		}
	}
	return int(n[0]), int(n[1]), int(n[2]), true
}
