package namespace

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/internal/nstest"
)

// What is done in a namespace is seen there and nowhere else, and the thread comes back.
func TestNamespace(t *testing.T) {
	nstest.New(t) // or the test is skipped
	ns, err := New()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	const name, path = "net.ipv4.tcp_retries2", "/proc/sys/net/ipv4/tcp_retries2"
	if err := ns.Sysctl(name, "7"); err != nil {
		t.Fatal(err)
	}
	if err := ns.Sysctl("net.ipv4.nonesuch", "7"); err != nil {
		t.Errorf("a setting that does not exist: %v", err)
	}
	var inside []byte
	if err := ns.Do(func() (err error) { inside, err = os.ReadFile(path); return err }); err != nil || string(inside) != "7\n" {
		t.Errorf("inside it is %q, %v", inside, err)
	}
	if outside, err := os.ReadFile(path); err != nil || string(outside) == "7\n" {
		t.Errorf("outside it is %q, %v", outside, err)
	}
	links, err := ns.Netlink().LinkList()
	if err != nil || len(links) != 1 {
		t.Errorf("devices %v, %v; want lo", links, err)
	}
	reason := errors.New("no")
	if err := ns.Do(func() error { return reason }); err != reason {
		t.Errorf("Do = %v", err)
	}
}

// Who may not make a namespace is told what that takes.
func TestWithoutPrivilege(t *testing.T) {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread loses its capabilities
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			done <- err
			return
		}
		_, err := unshare()
		done <- err
	}()
	if err := <-done; !errors.Is(err, ErrPrivilege) || !errors.Is(err, unix.EPERM) {
		t.Errorf("without capabilities: %v", err)
	}
}
