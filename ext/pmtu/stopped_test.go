package pmtu

import (
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// stopped is a clock that stands still.
type stopped struct{}

func (stopped) Now() time.Time                              { return time.Time{} }
func (stopped) NowMonotonic() tcpip.MonotonicTime           { return at(0) }
func (stopped) AfterFunc(time.Duration, func()) tcpip.Timer { return nil }
