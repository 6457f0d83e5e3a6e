// Package doctor finds out which link endpoints and offloads a machine and a
// user can use, and what is missing: a capability, a device node, a kernel option.
//
// Examine asks a Probe and draws conclusions; it touches nothing itself, so that
// every machine that there could be is a test case.
package doctor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
)

// Capability is the number of a capability (capabilities(7)).
type Capability uint

// The capabilities that link endpoints ask for.
const (
	CapNetAdmin Capability = 12
	CapNetRaw   Capability = 13
	CapSysAdmin Capability = 21
	CapBPF      Capability = 39
)

// The bits of TUNGETFEATURES (linux/if_tun.h).
const (
	tunMultiQueue = 0x0100
	tunVnetHdr    = 0x4000
)

// Probe looks at a machine. Nothing it does outlasts a call. An error of the
// kernel is a syscall.Errno, perhaps wrapped.
type Probe interface {
	// Release returns the kernel's version.
	Release() string
	// Has says whether this process has a capability in its user namespace.
	Has(Capability) bool
	// TUNFeatures opens the device that TAP and TUN devices are made with and
	// returns its features.
	TUNFeatures() (uint32, error)
	// PacketSocket opens a packet socket.
	PacketSocket() error
	// PacketOption opens a packet socket and sets one of PacketOptions.
	PacketOption(name string) error
	// XDPSocket opens an AF_XDP socket.
	XDPSocket() error
	// XDPProgram loads an XDP program that does nothing.
	XDPProgram() error
	// LockedMemory returns the limit of locked memory in bytes (RLIMIT_MEMLOCK).
	LockedMemory() uint64
	// UserNamespaces returns how many user namespaces may be made.
	UserNamespaces() (int, error)
}

// PacketOptions are the options of packet sockets that a Probe knows.
var PacketOptions = []string{"PACKET_VNET_HDR", "PACKET_RX_RING", "PACKET_IGNORE_OUTGOING", "PACKET_QDISC_BYPASS"}

// State is what is known about a row.
type State string

const (
	// OK means that it can be used.
	OK State = "ok"
	// Limited means that it can be used under the conditions that the remedy
	// names.
	Limited State = "limited"
	// Missing means that it cannot be used.
	Missing State = "missing"
)

// Row is one thing that was looked at.
type Row struct {
	// Endpoint is the endpoint that needs it: tap, afpacket or xdp, or machine
	// for what is none's.
	Endpoint string `json:"endpoint"`
	Feature  string `json:"feature"`
	State    State  `json:"state"`
	Detail   string `json:"detail,omitempty"`
	// Remedy says what to do about what is missing.
	Remedy string `json:"remedy,omitempty"`
	// Required means that the endpoint cannot do without.
	Required bool `json:"required,omitempty"`
}

// Report is what Examine found.
type Report struct {
	Kernel string `json:"kernel"`
	// Usable says of each endpoint whether New(Options{Name: ...}) can succeed.
	Usable map[string]State `json:"usable"`
	Rows   []Row            `json:"rows"`
}

// Endpoints are the endpoints that Examine looks at.
var Endpoints = []string{"tap", "afpacket", "xdp"}

// Examine looks at everything.
func Examine(p Probe) *Report {
	r := &Report{Kernel: p.Release(), Usable: make(map[string]State)}
	r.Rows = slices.Concat(tapRows(p), packetRows(p), xdpRows(p), machineRows(p))
	for _, e := range Endpoints {
		r.Usable[e] = OK
		for _, row := range r.Rows {
			if row.Endpoint != e || !row.Required {
				continue
			}
			if row.State == Missing || row.State == Limited && r.Usable[e] == OK {
				r.Usable[e] = row.State
			}
		}
	}
	return r
}

// row makes a row from the error of trying something.
func row(endpoint, feature string, required bool, err error, remedy func(error) string) Row {
	r := Row{Endpoint: endpoint, Feature: feature, Required: required, State: OK}
	if err != nil {
		r.State, r.Detail = Missing, err.Error()
		if remedy != nil {
			r.Remedy = remedy(err)
		}
	}
	return r
}

// tapRows looks at TAP and TUN devices.
func tapRows(p Probe) []Row {
	features, err := p.TUNFeatures()
	rows := []Row{row("tap", "device node /dev/net/tun", true, err, func(err error) string {
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENODEV), errors.Is(err, syscall.ENXIO):
			return "modprobe tun (CONFIG_TUN), or make the node: mknod /dev/net/tun c 10 200"
		case errors.Is(err, fs.ErrPermission):
			return "give this user read and write permission for the node"
		}
		return ""
	})}
	create := Row{Endpoint: "tap", Feature: "making devices", Required: true, State: OK}
	if !p.Has(CapNetAdmin) {
		create.State, create.Detail = Limited, "no CAP_NET_ADMIN"
		create.Remedy = "CAP_NET_ADMIN, a device that belongs to this user (ip tuntap add dev NAME mode tap user USER), or descriptors passed in"
	}
	rows = append(rows, create)
	if err != nil {
		return rows
	}
	for _, f := range []struct {
		name   string
		bit    uint32
		remedy string
	}{
		{"segmentation and checksum offload (IFF_VNET_HDR)", tunVnetHdr, "Linux 2.6.27 or later"},
		{"several queues (IFF_MULTI_QUEUE)", tunMultiQueue, "Linux 3.8 or later"},
	} {
		r := Row{Endpoint: "tap", Feature: f.name, State: OK}
		if features&f.bit == 0 {
			r.State, r.Detail, r.Remedy = Missing, fmt.Sprintf("features %#x", features), f.remedy
		}
		rows = append(rows, r)
	}
	return rows
}

// packetRows looks at packet sockets.
func packetRows(p Probe) []Row {
	err := p.PacketSocket()
	rows := []Row{row("afpacket", "packet socket", true, err, func(err error) string {
		switch {
		case errors.Is(err, syscall.EPERM):
			return "CAP_NET_RAW, or sockets passed in"
		case errors.Is(err, syscall.EAFNOSUPPORT):
			return "modprobe af_packet (CONFIG_PACKET)"
		}
		return ""
	})}
	if err != nil {
		return rows
	}
	for _, o := range []struct {
		option, feature, remedy string
		required                bool
	}{
		{"PACKET_VNET_HDR", "segmentation and checksum offload", "Linux 2.6.34 or later", true},
		{"PACKET_RX_RING", "receive ring", "CONFIG_PACKET_MMAP, or less memory in use", true},
		{"PACKET_IGNORE_OUTGOING", "not receiving what is sent", "Linux 4.20 or later; until then the endpoint drops it", false},
		{"PACKET_QDISC_BYPASS", "sending around the queueing discipline", "Linux 3.14 or later", false},
	} {
		rows = append(rows, row("afpacket", o.feature+" ("+o.option+")", o.required, p.PacketOption(o.option), func(error) string { return o.remedy }))
	}
	return rows
}

// leastLocked is the locked memory that one queue of an XDP endpoint needs at
// least: its frames in both directions and the rings for them.
const leastLocked = 1 << 20

// xdpRows looks at AF_XDP.
func xdpRows(p Probe) []Row {
	rows := []Row{
		row("xdp", "AF_XDP socket", true, p.XDPSocket(), func(err error) string {
			switch {
			case errors.Is(err, syscall.EPERM):
				return "CAP_NET_RAW, or descriptors passed in"
			case errors.Is(err, syscall.EAFNOSUPPORT):
				return "a kernel with CONFIG_XDP_SOCKETS"
			}
			return ""
		}),
		row("xdp", "loading XDP programs", true, p.XDPProgram(), func(err error) string {
			switch {
			case errors.Is(err, syscall.EPERM):
				return "CAP_BPF and CAP_NET_ADMIN outside any user namespace, or descriptors passed in"
			case errors.Is(err, syscall.ENOSYS):
				return "a kernel with CONFIG_BPF_SYSCALL"
			}
			return ""
		}),
	}
	attach := Row{Endpoint: "xdp", Feature: "attaching programs to devices", Required: true, State: OK}
	if !p.Has(CapNetAdmin) {
		attach.State, attach.Detail, attach.Remedy = Missing, "no CAP_NET_ADMIN", "CAP_NET_ADMIN, or descriptors passed in"
	}
	memory := Row{Endpoint: "xdp", Feature: "locked memory", State: OK}
	if n := p.LockedMemory(); n < leastLocked && !p.Has(CapSysAdmin) {
		memory.State, memory.Detail = Limited, fmt.Sprintf("%d KiB", n>>10)
		memory.Remedy = "a larger RLIMIT_MEMLOCK (ulimit -l), or fewer frames"
	}
	return append(rows, attach, memory)
}

// machineRows looks at what tests and benchmarks need.
func machineRows(p Probe) []Row {
	ns := Row{Endpoint: "machine", Feature: "network namespaces (bench link, tests)", State: OK}
	if !p.Has(CapSysAdmin) {
		ns.State, ns.Detail, ns.Remedy = Missing, "no CAP_SYS_ADMIN", "run as root, or in a user namespace: unshare --user --map-root-user --net"
	}
	n, err := p.UserNamespaces()
	user := row("machine", "user namespaces (tap and afpacket without root)", false, err, func(error) string { return "a kernel with CONFIG_USER_NS" })
	if err == nil && n == 0 {
		user.State, user.Detail, user.Remedy = Missing, "none allowed", "sysctl user.max_user_namespaces"
	}
	return []Row{ns, user}
}

// WriteJSON writes r as one JSON object.
func (r *Report) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// WriteTable writes r for people: each endpoint, and below it what it needs.
func (r *Report) WriteTable(w io.Writer) error {
	fmt.Fprintf(w, "kernel %s\n", r.Kernel)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, e := range append(slices.Clone(Endpoints), "machine") {
		if s, ok := r.Usable[e]; ok {
			fmt.Fprintf(t, "%s: %s\n", e, map[State]string{OK: "usable", Limited: "usable with what somebody else prepared", Missing: "not usable"}[s])
		} else {
			fmt.Fprintf(t, "%s:\n", e)
		}
		for _, row := range r.Rows {
			if row.Endpoint != e {
				continue
			}
			text := []string{row.Detail}
			if row.Remedy != "" {
				text = append(text, "needs "+row.Remedy)
			}
			fmt.Fprintln(t, strings.TrimRight("  "+string(row.State)+"\t"+row.Feature+"\t"+strings.Join(text, "; "), "\t "))
		}
	}
	return t.Flush()
}
