package kernel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a TCP socket of a namespace that the runtime's poller serves.
type socket struct {
	*os.File
	// raw gives access to the descriptor while the file is open.
	raw rawConn
}

// rawConn is what socket needs of a syscall.RawConn.
type rawConn interface {
	Control(f func(fd uintptr)) error
	Read(f func(fd uintptr) bool) error
}

// newSocket makes a socket of a descriptor, which it owns from then on.
func newSocket(fd int) (*socket, error) {
	f := os.NewFile(uintptr(fd), "tcp")
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &socket{f, raw}, nil
}

// open makes a socket in the namespace of the calling thread and prepares it.
func open(prepare func(fd int) error) (*socket, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, os.NewSyscallError("socket", err)
	}
	if err := prepare(fd); err != nil {
		unix.Close(fd)
		return nil, err
	}
	return newSocket(fd)
}

// setAlgorithm sets a socket's congestion control.
func setAlgorithm(fd int, algorithm string) error {
	name := moduleName(algorithm)
	err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, name)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fmt.Errorf("this kernel has no congestion control %q loaded: modprobe tcp_%s", name, name)
	case errors.Is(err, unix.EPERM):
		const allowed = "net.ipv4.tcp_allowed_congestion_control"
		return fmt.Errorf("the kernel does not let a namespace use %q: sysctl -w %s=%q on the host", name, allowed, strings.Join(append(allowedAlgorithms(), name), " "))
	case err != nil:
		return fmt.Errorf("set congestion control %q: %w", name, err)
	}
	return nil
}

// tcpInfo asks the kernel about a connection. A kernel that does not count time-outs is too old.
func tcpInfo(fd int) (*unix.TCPInfo, error) {
	var info unix.TCPInfo
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_INFO, uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("getsockopt", errno)
	}
	if uintptr(size) < unsafe.Offsetof(info.Total_rto)+unsafe.Sizeof(info.Total_rto) {
		return nil, errors.New("this kernel does not count the time-outs of a connection, which takes Linux 6.7")
	}
	return &info, nil
}

// abort closes the socket and its connection at once, so that nothing of it keeps the namespace alive.
func (s *socket) abort() {
	if s == nil {
		return
	}
	s.raw.Control(func(fd uintptr) {
		unix.SetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	})
	s.Close()
}

// accept waits for a connection and returns its socket and the peer's port.
func (s *socket) accept() (*socket, int, error) {
	var fd int
	var from unix.Sockaddr
	var err error
	ended := s.raw.Read(func(l uintptr) bool {
		for {
			fd, from, err = unix.Accept4(int(l), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
			if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ECONNABORTED) {
				return !errors.Is(err, unix.EAGAIN)
			}
		}
	})
	if err = errors.Join(ended, err); err != nil {
		return nil, 0, err
	}
	port := 0
	if a, ok := from.(*unix.SockaddrInet4); ok {
		port = a.Port
	}
	c, err := newSocket(fd)
	return c, port, err
}
