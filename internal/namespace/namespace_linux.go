package namespace

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// ErrPrivilege says that the kernel lets this process make no network namespace.
var ErrPrivilege = errors.New("cannot make a network namespace, which takes CAP_SYS_ADMIN (run it as root)")

// Namespace is a network namespace. Its methods may be called concurrently.
type Namespace struct {
	fd     netns.NsHandle
	handle *netlink.Handle
}

// New makes an empty namespace; its loopback device is down. Without CAP_SYS_ADMIN
// the error is ErrPrivilege.
func New() (*Namespace, error) {
	ns := &Namespace{fd: netns.None()}
	err := onThread(func() (err error) {
		ns.fd, err = unshare()
		return err
	})
	if err != nil {
		return nil, err
	}
	if ns.handle, err = netlink.NewHandleAt(ns.fd, unix.NETLINK_ROUTE); err != nil {
		ns.fd.Close()
		return nil, err
	}
	return ns, nil
}

// unshare moves the calling thread into a new namespace and returns it.
func unshare() (netns.NsHandle, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return netns.None(), fmt.Errorf("%w: %w", ErrPrivilege, err)
	}
	return netns.Get()
}

// Close lets go of the namespace, which the kernel removes with its devices once
// nobody uses it.
func (ns *Namespace) Close() {
	ns.handle.Close()
	ns.fd.Close()
}

// Netlink returns a handle on the namespace's devices, addresses and routes.
func (ns *Namespace) Netlink() *netlink.Handle { return ns.handle }

// Move moves a device of this namespace into another.
func (ns *Namespace) Move(link netlink.Link, to *Namespace) error {
	return ns.handle.LinkSetNsFd(link, int(to.fd))
}

// Do calls f on a thread in the namespace and returns what f does. Sockets and
// devices that f makes belong to the namespace; goroutines that f starts do not
// run in it.
func (ns *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := netns.Set(ns.fd); err != nil {
			return err
		}
		return f()
	})
}

// Sysctl sets what belongs to the namespace, its name given with dots. A kernel
// that does not have it does not need it.
func (ns *Namespace) Sysctl(name, value string) error {
	path := filepath.Join("/proc/sys", strings.ReplaceAll(name, ".", "/"))
	return ns.Do(func() error {
		err := os.WriteFile(path, []byte(value), 0)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	})
}

// onThread runs f, which may enter a namespace, on a thread that it gives back to
// the namespace that it was in. A thread that cannot go back runs nothing else: it
// ends with the goroutine, unless it is the process's first.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := netns.Get()
		if err != nil {
			done <- err
			return
		}
		err = f()
		if netns.Set(home) == nil {
			runtime.UnlockOSThread()
		}
		home.Close()
		done <- err
	}()
	return <-done
}
