package linktest_test

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/internal/nstest"
	"github.com/plumbline/plumbline/linkendpoints/afpacket"
	"github.com/plumbline/plumbline/linkendpoints/tap"
	"github.com/plumbline/plumbline/linkendpoints/xdp"
)

// inUserNamespace is set in the environment of the process in the namespace.
const inUserNamespace = "PLUMBLINE_TEST_USER_NAMESPACE"

// A user without capabilities has them in a user namespace of his own, which is
// enough for a TAP and for packet sockets. XDP takes more, and says what.
func TestUserNamespace(t *testing.T) {
	if os.Getenv(inUserNamespace) != "" {
		testInUserNamespace(t)
		return
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestUserNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), inUserNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) {
		nstest.Missing(t, "no user namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("in the namespace: %v\n%s", err, out)
	}
}

// arrivals is a dispatcher that tells of each IPv4 packet.
type arrivals chan struct{}

func (a arrivals) DeliverNetworkPacket(proto tcpip.NetworkProtocolNumber, _ *stack.PacketBuffer) {
	if proto == header.IPv4ProtocolNumber {
		a <- struct{}{}
	}
}

func (arrivals) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// testInUserNamespace is the part that runs in the namespace.
func testInUserNamespace(t *testing.T) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "ours"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		t.Fatal(err)
	}
	device, err := tap.New(tap.Options{Name: "tap0"})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EACCES) {
		nstest.Missing(t, "no TAP devices: %v", err)
	}
	if err != nil {
		t.Fatalf("a TAP: %v", err)
	}
	for _, name := range []string{"ours", "far", "tap0"} {
		l, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	socket := func(name string) *afpacket.Endpoint {
		e, err := afpacket.New(afpacket.Options{Name: name})
		if err != nil {
			t.Fatalf("packet sockets on %s: %v", name, err)
		}
		return e
	}
	carries(t, socket("ours"), socket("far"))
	carries(t, socket("tap0"), device)

	_, err = xdp.New(xdp.Options{Name: "ours"})
	var missing *xdp.CapabilityError
	if !errors.As(err, &missing) || missing.Capability != "CAP_BPF and CAP_NET_ADMIN outside any user namespace" {
		t.Errorf("XDP: %v, want an error that names the capabilities", err)
	}
}

// carries checks that what from sends reaches to, and closes both.
func carries(t *testing.T, from, to stack.LinkEndpoint) {
	t.Helper()
	a := make(arrivals, 1)
	to.Attach(a)
	payload := make([]byte, 100)
	header.IPv4(payload).Encode(&header.IPv4Fields{TotalLength: uint16(len(payload)), TTL: 1, Protocol: 253})
	header.IPv4(payload).SetChecksum(^header.IPv4(payload).CalculateChecksum())
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: int(from.MaxHeaderLength()), Payload: buffer.MakeWithData(payload),
	})
	pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
	pkt.EgressRoute.LocalLinkAddress = from.LinkAddress()
	pkt.EgressRoute.RemoteLinkAddress = to.LinkAddress()
	from.AddHeader(pkt)
	var list stack.PacketBufferList
	list.PushBack(pkt)
	if n, err := from.WritePackets(list); n != 1 {
		t.Errorf("WritePackets = %d, %v", n, err)
	}
	list.DecRef()
	select {
	case <-a:
	case <-time.After(20 * time.Second):
		t.Error("the packet does not arrive")
	}
	to.Attach(nil)
	for _, e := range []stack.LinkEndpoint{from, to} {
		e.Close()
		e.Wait()
	}
}
