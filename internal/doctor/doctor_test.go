package doctor

import (
	"encoding/json"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// machine is a Probe of a machine that does not exist. Its zero value has
// everything and its user may do everything.
type machine struct {
	without    []Capability
	noFeatures bool
	tun        error
	packet     error
	options    map[string]error
	xdp        error
	program    error
	locked     uint64
	namespaces int
	noUserNS   error
}

func (machine) Release() string                { return "6.1" }
func (m machine) Has(c Capability) bool        { return !slices.Contains(m.without, c) }
func (m machine) PacketSocket() error          { return m.packet }
func (m machine) PacketOption(n string) error  { return m.options[n] }
func (m machine) XDPSocket() error             { return m.xdp }
func (m machine) XDPProgram() error            { return m.program }
func (m machine) LockedMemory() uint64         { return m.locked }
func (m machine) UserNamespaces() (int, error) { return m.namespaces, m.noUserNS }
func (m machine) TUNFeatures() (uint32, error) {
	if m.noFeatures {
		return 0, m.tun
	}
	return tunMultiQueue | tunVnetHdr, m.tun
}

var nobody = []Capability{CapNetAdmin, CapNetRaw, CapSysAdmin, CapBPF}

// What is missing is named, with what to do about it.
func TestExamine(t *testing.T) {
	for _, tt := range []struct {
		name   string
		m      machine
		usable string   // of tap, afpacket and xdp
		want   []string // each is in a line of the table
	}{
		{"everything", machine{locked: 1 << 30, namespaces: 1}, "ok ok ok", []string{"tap: usable", "afpacket: usable", "xdp: usable"}},
		{"nobody on a good kernel", machine{without: nobody, packet: syscall.EPERM, xdp: syscall.EPERM, program: syscall.EPERM, locked: 64 << 10, namespaces: 9},
			"limited missing missing", []string{"CAP_NET_RAW, or sockets passed in", "CAP_BPF and CAP_NET_ADMIN", "ip tuntap add", "RLIMIT_MEMLOCK", "unshare --user"}},
		{"no tun module", machine{tun: &fs.PathError{Op: "open", Path: "/dev/net/tun", Err: syscall.ENOENT}, locked: 1 << 30, namespaces: 1}, "missing ok ok", []string{"CONFIG_TUN"}},
		{"a closed node", machine{tun: syscall.EACCES, locked: 1 << 30, namespaces: 1}, "missing ok ok", []string{"read and write permission"}},
		{"an old tun", machine{noFeatures: true, locked: 1 << 30, namespaces: 1}, "ok ok ok", []string{"missing segmentation", "missing several queues", "Linux 3.8"}},
		{"a kernel without packet sockets", machine{packet: syscall.EAFNOSUPPORT, locked: 1 << 30, namespaces: 1}, "ok missing ok", []string{"CONFIG_PACKET"}},
		{"a kernel without rings", machine{options: map[string]error{"PACKET_RX_RING": syscall.ENOPROTOOPT}, locked: 1 << 30, namespaces: 1}, "ok missing ok", []string{"PACKET_RX_RING"}},
		{"a kernel before 4.20", machine{options: map[string]error{"PACKET_IGNORE_OUTGOING": syscall.ENOPROTOOPT}, locked: 1 << 30, namespaces: 1}, "ok ok ok", []string{"Linux 4.20"}},
		{"a kernel without AF_XDP", machine{xdp: syscall.EAFNOSUPPORT, locked: 1 << 30, namespaces: 1}, "ok ok missing", []string{"CONFIG_XDP_SOCKETS"}},
		{"a kernel without BPF", machine{program: syscall.ENOSYS, locked: 1 << 30, namespaces: 1}, "ok ok missing", []string{"CONFIG_BPF_SYSCALL"}},
		{"root in a container", machine{without: []Capability{CapSysAdmin, CapNetAdmin, CapBPF}, program: syscall.EPERM, locked: 1 << 30, namespaces: 0},
			"limited ok missing", []string{"no CAP_NET_ADMIN", "none allowed; needs sysctl user.max_user_namespaces"}},
		{"no user namespaces", machine{locked: 1 << 30, noUserNS: fs.ErrNotExist}, "ok ok ok", []string{"CONFIG_USER_NS"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := Examine(tt.m)
			var usable []string
			for _, e := range Endpoints {
				usable = append(usable, string(r.Usable[e]))
			}
			if got := strings.Join(usable, " "); got != tt.usable {
				t.Errorf("usable %q, want %q", got, tt.usable)
			}
			var table, js strings.Builder
			if err := r.WriteTable(&table); err != nil {
				t.Fatal(err)
			}
			lines := strings.Join(strings.Fields(table.String()), " ")
			for _, want := range tt.want {
				if !strings.Contains(lines, want) {
					t.Errorf("no %q in\n%s", want, table.String())
				}
			}
			for _, row := range r.Rows {
				if (row.State == OK) != (row.Remedy == "") {
					t.Errorf("%+v: a remedy goes with what is missing", row)
				}
			}
			if err := r.WriteJSON(&js); err != nil {
				t.Fatal(err)
			}
			var back Report
			if err := json.Unmarshal([]byte(js.String()), &back); err != nil || len(back.Rows) != len(r.Rows) || back.Usable["tap"] != r.Usable["tap"] {
				t.Errorf("JSON: %v\n%s", err, js.String())
			}
		})
	}
}
