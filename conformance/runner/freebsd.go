package runner

import (
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// setting is the name and the value of a sysctl.
type setting struct{ name, value string }

// freeBSD says what the settings of FreeBSD's TCP are called in Linux, with the
// value that means the same. No setting at all is one that says what every
// target does.
var freeBSD = map[string]func(value string) ([]setting, bool){
	"net.inet.tcp.rfc1323": func(v string) ([]setting, bool) {
		return []setting{{"net.ipv4.tcp_window_scaling", v}, {"net.ipv4.tcp_timestamps", v}}, true
	},
	"net.inet.tcp.sack.enable":               renamed("net.ipv4.tcp_sack"),
	"net.inet.tcp.ecn.enable":                renamed("net.ipv4.tcp_ecn"),
	"net.inet.tcp.recvspace":                 windowSpace,
	"net.inet.tcp.sendspace":                 buffer("net.ipv4.tcp_wmem"),
	"net.inet.tcp.delacktime":                renamed("net.ipv4.tcp_delack_ms"),
	"net.inet.tcp.rexmit_initial":            renamed("net.ipv4.tcp_rto_initial_ms"),
	"net.inet.tcp.keepidle":                  inSeconds("net.ipv4.tcp_keepalive_time"),
	"net.inet.tcp.keepintvl":                 inSeconds("net.ipv4.tcp_keepalive_intvl"),
	"net.inet.tcp.keepcnt":                   renamed("net.ipv4.tcp_keepalive_probes"),
	"net.inet.tcp.pmtud_blackhole_detection": renamed("net.ipv4.tcp_mtu_probing"),
	"net.inet.tcp.fastopen.client_enable":    renamed("net.ipv4.tcp_fastopen"),
	"net.inet.tcp.blackhole":                 always("0"),
	"net.inet.tcp.drop_synfin":               always("0"),
	"net.inet.tcp.insecure_rst":              always("0"),
	"net.inet.tcp.insecure_syn":              always("0"),
	"net.inet.tcp.icmp_may_rst":              always("1"),
	"net.inet.tcp.path_mtu_discovery":        always("1"),
	"net.inet.tcp.rexmit_drop_options":       always("0"),
	"net.inet.tcp.rexmit_slop":               always("200"),
	"net.inet.tcp.syncookies":                always("1"),
	"net.inet.tcp.syncookies_only":           always("0"),
	"net.inet.tcp.tolerate_missing_ts":       always("0"),
	"net.inet.tcp.hostcache.purgenow":        always("1"),
	"kern.ipc.maxsockbuf":                    always(strconv.Itoa(mostSocket)),
	"net.inet.tcp.udp_tunneling_port":        always("0"),
	"net.inet.tcp.v6pmtud_blackhole_mss":     always("1220"),
	"net.inet.tcp.pmtud_blackhole_mss":       always("1200"),
}

// renamed is a setting that has another name and the same values.
func renamed(name string) func(string) ([]setting, bool) {
	return func(v string) ([]setting, bool) { return []setting{{name, v}}, true }
}

// inSeconds is a setting in milliseconds for one in seconds.
func inSeconds(name string) func(string) ([]setting, bool) {
	return func(v string) ([]setting, bool) {
		ms, err := strconv.ParseUint(v, 10, 32)
		return []setting{{name, strconv.FormatUint(ms/1000, 10)}}, err == nil && ms%1000 == 0
	}
}

// The limits around the size of a buffer that a setting of FreeBSD gives: those
// that Linux has by default, in octets.
const (
	leastBuffer = 4096
	mostBuffer  = 6 << 20
	// mostSocket is kern.ipc.maxsockbuf, of which FreeBSD makes the shift of its
	// windows.
	mostSocket = 2 << 20
)

// windowSpace is the initial size of the receive buffer. FreeBSD offers all of it
// as window, Linux one half, so that twice as much gives the same windows.
func windowSpace(v string) ([]setting, bool) {
	n, err := strconv.ParseUint(v, 10, 32)
	sizes := strconv.Itoa(leastBuffer) + " " + strconv.FormatUint(2*n, 10) + " " + strconv.Itoa(2*mostSocket)
	return []setting{{"net.ipv4.tcp_rmem", sizes}}, err == nil && 2*n >= leastBuffer && n <= mostSocket
}

// buffer is the initial size of a buffer, for a range of sizes.
func buffer(name string) func(string) ([]setting, bool) {
	return func(v string) ([]setting, bool) {
		n, err := strconv.ParseUint(v, 10, 32)
		sizes := strconv.Itoa(leastBuffer) + " " + v + " " + strconv.Itoa(mostBuffer)
		return []setting{{name, sizes}}, err == nil && n >= leastBuffer && n <= mostBuffer
	}
}

// always is a setting of which targets have one value only.
func always(value string) func(string) ([]setting, bool) {
	return func(v string) ([]setting, bool) { return nil, v == value }
}

// forFreeBSD reports whether a script was written for FreeBSD: it has settings of
// its TCP.
func forFreeBSD(s *script.Script) bool {
	names := func(c *script.Command) bool { return strings.Contains(c.Text, "net.inet.tcp.") }
	return slices.ContainsFunc(s.Init, names) || slices.ContainsFunc(s.Events, func(ev *script.Event) bool {
		c, ok := ev.Action.(*script.Command)
		return ok && names(c)
	})
}

// likeFreeBSD gives a new socket what sockets of FreeBSD have by default and
// Linux's have not: its first ACKs are delayed as any. A target without the option
// keeps its ways.
func (r *run) likeFreeBSD(fd target.FD) {
	if r.freeBSD {
		_, _ = r.target.Syscall(target.SetOption{FD: fd, Level: "IPPROTO_TCP", Name: "TCP_QUICKACK", Value: 0})
	}
}

// translate returns the settings of Linux that mean what one of FreeBSD means;
// any other stands for itself.
func translate(s setting) ([]setting, error) {
	meaning, ok := freeBSD[s.name]
	if !ok {
		return []setting{s}, nil
	}
	list, ok := meaning(s.value)
	if !ok {
		return nil, target.Unsupportedf("sysctl %s=%s", s.name, s.value)
	}
	return list, nil
}

// sockstat performs a pipeline with which FreeBSD's scripts count the sockets of
// theirs that are in a state:
//
//	sockstat -4 -P tcp -s | grep packetdril | grep -c TIME_WAIT | grep 1
//
// It reports false if the line is no such pipeline. Connections that no
// descriptor stands for cannot be counted.
func (r *run) sockstat(line string) (bool, error) {
	stages := strings.Split(line, "|")
	first := strings.Fields(stages[0])
	if len(first) == 0 || path.Base(first[0]) != "sockstat" || len(stages) < 3 {
		return false, nil
	}
	count := strings.Fields(stages[len(stages)-2])
	want := strings.Fields(stages[len(stages)-1])
	if len(count) != 3 || count[0] != "grep" || count[1] != "-c" || len(want) != 2 || want[0] != "grep" {
		return false, nil
	}
	number, err := strconv.Atoi(want[1])
	state, known := script.Constant("TCP_" + count[2])
	if err != nil || !known || !slices.Contains(observable, count[2]) {
		return true, target.Unsupportedf("the command %q", strings.TrimSpace(line))
	}
	n := 0
	for _, f := range r.files {
		info, err := r.target.Info(f.live)
		if err == nil && info["state"] == state {
			n++
		}
	}
	if n != number {
		f := r.failf("%d sockets are in the state %s, expected %d", n, count[2], number)
		f.Actual = strconv.Itoa(n)
		return true, f
	}
	return true, nil
}

// observable are the states that descriptors may be in, as FreeBSD calls them
// where it has no other name for them.
var observable = []string{"ESTABLISHED", "CLOSE_WAIT", "LAST_ACK", "CLOSING", "TIME_WAIT"}
