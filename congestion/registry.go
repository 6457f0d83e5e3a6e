package congestion

import (
	"fmt"
	"slices"
	"sync"
)

// MaxNameLen is the longest name of an algorithm in bytes: what fits, with its final NUL, in TCP_CONGESTION's 16.
const MaxNameLen = 15

var registry = struct {
	sync.RWMutex
	factories map[string]func() Controller
}{factories: make(map[string]func() Controller)}

// Register makes an algorithm selectable by name. The packages of this module register theirs when they are imported; others may do so at any time. f returns a
// new Controller at each call and must be safe for concurrent use. Register panics if f is nil, if name is empty, longer than MaxNameLen or
// not of printable ASCII without spaces, and if it is taken: these are mistakes of the program, not of its input.
func Register(name string, f func() Controller) {
	if f == nil {
		panic(fmt.Sprintf("congestion: Register(%q) with a nil factory", name))
	}
	if !validName(name) {
		panic(fmt.Sprintf("congestion: Register with the invalid name %q", name))
	}
	registry.Lock()
	defer registry.Unlock()
	if _, taken := registry.factories[name]; taken {
		panic(fmt.Sprintf("congestion: Register(%q) twice", name))
	}
	registry.factories[name] = f
}

// New returns a new Controller of the algorithm registered as name, not yet initialised; false if there is none. It is safe for concurrent use.
func New(name string) (Controller, bool) {
	registry.RLock()
	f := registry.factories[name]
	registry.RUnlock()
	if f == nil {
		return nil, false
	}
	return f(), true
}

// Names returns the registered names, sorted. It is safe for concurrent use.
func Names() []string {
	registry.RLock()
	defer registry.RUnlock()
	names := make([]string, 0, len(registry.factories))
	for name := range registry.factories {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func validName(name string) bool {
	if name == "" || len(name) > MaxNameLen {
		return false
	}
	for i := range len(name) {
		if name[i] <= ' ' || name[i] > '~' {
			return false
		}
	}
	return true
}
