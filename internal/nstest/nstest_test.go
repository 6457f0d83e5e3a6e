//go:build linux

package nstest

import (
	"io"
	"strings"
	"testing"
)

// The namespace is empty but for lo, and what is made in it is seen in it only.
func TestNamespace(t *testing.T) {
	a, b := New(t), New(t)
	a.AddTAP(t, TAP{Name: "tap0", MTU: 9000, Addrs: []string{"10.0.0.1/24", "fd00::1/64"}})
	out := a.Run(t, "ip", "-o", "address", "show", "dev", "tap0")
	for _, want := range []string{"10.0.0.1/24", "fd00::1/64"} {
		if !strings.Contains(out, want) {
			t.Errorf("ip address shows no %s:\n%s", want, out)
		}
	}
	links, err := b.Netlink().LinkList()
	if err != nil {
		t.Fatal(err)
	}
	if len(links) != 1 || links[0].Attrs().Name != "lo" {
		t.Errorf("the other namespace has %d links, want lo alone", len(links))
	}
}

func TestSockets(t *testing.T) {
	ns := New(t)
	l := ns.Listen(t, "tcp", "127.0.0.1:0")
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		io.WriteString(c, "hello")
		c.Close()
	}()
	c, err := ns.Dial("tcp", l.Addr().String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if b, err := io.ReadAll(c); err != nil || string(b) != "hello" {
		t.Errorf("read %q, %v", b, err)
	}
	if _, err := New(t).Dial("tcp", l.Addr().String(), nil); err == nil {
		t.Error("another namespace could connect")
	}
}

func TestSysctl(t *testing.T) {
	a, b := New(t), New(t)
	const name = "net.ipv4.tcp_sack"
	a.Sysctl(t, name, "0")
	path := "/proc/sys/net/ipv4/tcp_sack"
	if got := strings.TrimSpace(a.Run(t, "cat", path)); got != "0" {
		t.Errorf("%s = %s after setting it to 0", name, got)
	}
	if got := strings.TrimSpace(b.Run(t, "cat", path)); got != "1" {
		t.Errorf("%s = %s in another namespace", name, got)
	}
}
