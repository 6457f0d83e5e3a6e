package linux

import (
	"fmt"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// dissolve ends the association of a socket: connect to AF_UNSPEC.
func dissolve(fd int) error {
	var unspec unix.RawSockaddr
	if _, _, e := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec)); e != 0 {
		return e
	}
	return nil
}

// optionNumbers returns the numbers of the level and the name of an option.
func optionNumbers(level, name string) (l, n int, err error) {
	lv, okLevel := script.Constant(level)
	nv, okName := script.Constant(name)
	if !okLevel || !okName {
		return 0, 0, target.Unsupportedf("the socket option %s, %s", level, name)
	}
	return int(lv), int(nv), nil
}

func (h *host) setOption(c target.SetOption, f *file) (target.Pending, error) {
	level, name, err := optionNumbers(c.Level, c.Name)
	if err != nil {
		return nil, err
	}
	fd := int(c.FD)
	switch v := c.Value.(type) {
	case int:
		if c.Name == "TCP_FASTOPEN_CONNECT" {
			f.fastOpen = v != 0
		}
		return h.immediate(outcome(unix.SetsockoptInt(fd, level, name, v)))
	case string:
		return h.immediate(outcome(unix.SetsockoptString(fd, level, name, v)))
	case target.Linger:
		l := &unix.Linger{Linger: int32(v.Seconds)}
		if v.On {
			l.Onoff = 1
		}
		f.linger = v.On && v.Seconds > 0
		return h.immediate(outcome(unix.SetsockoptLinger(fd, level, name, l)))
	case time.Duration:
		tv := unix.NsecToTimeval(int64(v))
		r := outcome(unix.SetsockoptTimeval(fd, level, name, &tv))
		if r.Errno == "" && c.Name == "SO_RCVTIMEO" {
			f.recvTimeout = v
		} else if r.Errno == "" {
			f.sendTimeout = v
		}
		return h.immediate(r)
	}
	return nil, target.Unsupportedf("a value of type %T for %s", c.Value, c.Name)
}

func (h *host) getOption(c target.GetOption, f *file) (target.Pending, error) {
	level, name, err := optionNumbers(c.Level, c.Name)
	if err != nil {
		return nil, err
	}
	var value any
	switch c.Name {
	case "TCP_CONGESTION":
		var s string
		s, err = unix.GetsockoptString(int(c.FD), level, name)
		value = strings.TrimRight(s, "\x00")
	case "SO_LINGER":
		var v uint64
		v, err = unix.GetsockoptUint64(int(c.FD), level, name)
		value = target.Linger{On: uint32(v) != 0, Seconds: int(v >> 32)}
	case "SO_RCVTIMEO":
		value = f.recvTimeout
	case "SO_SNDTIMEO":
		value = f.sendTimeout
	case "SO_ERROR":
		var v int
		v, err = unix.GetsockoptInt(int(c.FD), level, name)
		if value = target.Errno(""); v != 0 {
			value = target.Errno(unix.ErrnoName(unix.Errno(v)))
		}
	default:
		value, err = unix.GetsockoptInt(int(c.FD), level, name)
	}
	if err != nil {
		return h.immediate(failed(err))
	}
	return h.immediate(target.Result{Option: value})
}

// Info implements [target.Target]: the fields of struct tcp_info under their
// own names.
func (h *host) Info(fd target.FD) (target.Info, error) {
	raw, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return nil, &target.UnsupportedError{What: fmt.Sprintf("TCP_INFO of descriptor %d", fd), Why: err.Error()}
	}
	info := make(target.Info)
	v := reflect.ValueOf(raw).Elem()
	for i := range v.NumField() {
		if f := v.Field(i); f.CanUint() {
			info[strings.ToLower(v.Type().Field(i).Name)] = int64(f.Uint())
		}
	}
	return info, nil
}
