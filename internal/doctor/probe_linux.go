package doctor

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// Machine is the Probe of the machine that this process runs on, with the
// rights and in the namespaces of the calling thread.
type Machine struct{}

// Release implements Probe.
func (Machine) Release() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

// Has implements Probe.
func (Machine) Has(c Capability) bool {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if unix.Capget(&hdr, &data[0]) != nil {
		return false
	}
	return data[c/32].Effective>>(c%32)&1 != 0
}

// TUNFeatures implements Probe.
func (Machine) TUNFeatures() (uint32, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	n, err := unix.IoctlGetUint32(fd, unix.TUNGETFEATURES)
	return n, err
}

// PacketSocket implements Probe.
func (Machine) PacketSocket() error { return trySocket(unix.AF_PACKET, nil) }

// PacketOption implements Probe.
func (Machine) PacketOption(name string) error {
	options := map[string]int{
		"PACKET_VNET_HDR":        unix.PACKET_VNET_HDR,
		"PACKET_IGNORE_OUTGOING": unix.PACKET_IGNORE_OUTGOING,
		"PACKET_QDISC_BYPASS":    unix.PACKET_QDISC_BYPASS,
	}
	return trySocket(unix.AF_PACKET, func(fd int) error {
		if name == "PACKET_RX_RING" {
			if err := unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V2); err != nil {
				return err
			}
			return unix.SetsockoptTpacketReq(fd, unix.SOL_PACKET, unix.PACKET_RX_RING,
				&unix.TpacketReq{Block_size: 64 << 10, Block_nr: 4, Frame_size: 2048, Frame_nr: 128})
		}
		option, ok := options[name]
		if !ok {
			return fmt.Errorf("unknown option %s", name)
		}
		return unix.SetsockoptInt(fd, unix.SOL_PACKET, option, 1)
	})
}

// XDPSocket implements Probe.
func (Machine) XDPSocket() error { return trySocket(unix.AF_XDP, nil) }

// trySocket opens a raw socket, calls f, and closes it.
func trySocket(domain int, f func(fd int) error) error {
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if f == nil {
		return nil
	}
	return f(fd)
}

// XDPProgram implements Probe.
func (Machine) XDPProgram() error {
	const pass = 2
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, pass), asm.Return()},
	})
	if err != nil {
		return err
	}
	return p.Close()
}

// LockedMemory implements Probe.
func (Machine) LockedMemory() uint64 {
	var l unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l) != nil {
		return 0
	}
	return l.Cur
}

// UserNamespaces implements Probe.
func (Machine) UserNamespaces() (int, error) {
	b, err := os.ReadFile("/proc/sys/user/max_user_namespaces")
	if err != nil {
		return 0, err
	}
	if b, err := os.ReadFile("/proc/sys/kernel/unprivileged_userns_clone"); err == nil && strings.TrimSpace(string(b)) == "0" {
		return 0, nil // Debian's own switch
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}
