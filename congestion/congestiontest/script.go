package congestiontest

import (
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// run interprets data as a script of transport events and returns the first broken invariant. Any bytes are a script.
func (x *transport) run(data []byte) error {
	for i := 0; i+1 < len(data) && x.err == nil; i += 2 {
		x.step(data[i], int(data[i+1]))
		// Keep what a script can make us do within bounds.
		if len(x.flight) > 1<<14 {
			x.acknowledge(0, len(x.flight))
		}
	}
	return x.err
}

// step performs one event; arg tells how much of it.
func (x *transport) step(op byte, arg int) {
	switch op % 16 {
	case 0, 1:
		x.send(arg + 1)
	case 2:
		x.fill()
	case 3, 4, 5:
		x.acknowledge(0, arg+1)
	case 6:
		x.acknowledge(arg%32+1, arg/32+1)
	case 7:
		x.now += time.Duration(arg) * time.Millisecond
	case 8:
		x.now += time.Duration(arg) * time.Microsecond
	case 9:
		x.timeout()
	case 10:
		x.exitRecovery()
	case 11:
		x.spurious()
	case 12:
		x.idle(time.Duration(arg+1) * time.Second)
	case 13:
		x.setMSS([]uint32{1, 88, 536, 1000, 1448, 9000, 65535}[arg%7])
	case 14:
		x.congested([]congestion.Signal{congestion.TLP, congestion.ClassicECN}[arg%2], x.bytes, 0)
	case 15:
		for range arg%8 + 1 {
			x.round(baseRTT + time.Duration(arg)*time.Millisecond)
		}
	}
}
