package reno_test

import (
	"testing"
	"time"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/congestiontest"
	"github.com/plumbline/plumbline/congestion/reno"
)

func TestContract(t *testing.T) { congestiontest.Run(t, reno.New) }

func FuzzController(f *testing.F) { congestiontest.Fuzz(f, reno.New) }

func BenchmarkOnAck(b *testing.B) {
	c := reno.New()
	c.Init(congestion.Config{MSS: 1448, InitialWindow: 144_800, Ssthresh: 144_800})
	ev := congestion.AckEvent{
		Acked: 2896, CumAcked: 2896, CwndLimited: true, PriorInFlight: 144_800, InFlight: 141_904, SRTT: 40 * time.Millisecond, RTT: 40 * time.Millisecond,
	}
	for b.Loop() {
		ev.Now += time.Millisecond
		ev.Delivered += 2896
		c.OnAck(&ev)
	}
}
