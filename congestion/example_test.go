package congestion_test

import (
	"fmt"
	"time"

	"github.com/plumbline/plumbline/congestion"
	_ "github.com/plumbline/plumbline/congestion/cubic" // registers "cubic"
	_ "github.com/plumbline/plumbline/congestion/reno"  // registers "reno"
)

// A transport selects an algorithm by its name and asks it what it may send.
func ExampleNew() {
	c, ok := congestion.New("cubic")
	if !ok {
		fmt.Println("no such algorithm; there are", congestion.Names())
		return
	}
	c.Init(congestion.Config{MSS: 1448, InitialWindow: congestion.InitialWindow(1448)})
	fmt.Println("bytes in flight:", c.Control().Cwnd)
	// Output: bytes in flight: 14480
}

// One round trip of a transport: packets leave, ACKs come back, the window grows.
func ExampleController() {
	const rtt = 20 * time.Millisecond
	var (
		now     congestion.Time // of a connection that began at 0
		sampler congestion.Sampler
		packets [10]congestion.PacketState
		flight  uint64
	)
	c, _ := congestion.New("reno")
	c.Init(congestion.Config{MSS: 1000, InitialWindow: 10_000, Now: now})

	for i := range packets {
		sampler.OnSent(&packets[i], now, 1000, flight, false)
		flight += 1000
		c.OnSent(now, 1000, flight)
	}

	var ev congestion.AckEvent // one for the life of a connection
	for i := range packets {
		now = rtt + time.Duration(i)*time.Millisecond // the bottleneck carries a packet in a millisecond
		sampler.Begin(now)
		sampler.OnDelivered(&packets[i], now)
		prior := flight
		flight -= 1000
		ev = congestion.AckEvent{
			Now: now, Acked: 1000, CumAcked: 1000, PriorInFlight: prior, InFlight: flight,
			Sample: sampler.Finish(rtt, flight), Delivered: sampler.Delivered(),
			RTT: now, SRTT: rtt, MinRTT: rtt, CwndLimited: true,
		}
		c.OnAck(&ev)
	}
	fmt.Println("cwnd:", c.Control().Cwnd)
	fmt.Println("delivery rate:", ev.Sample.DeliveryRate, "bytes per second over", ev.Sample.Interval)
	// Output:
	// cwnd: 20000
	// delivery rate: 344827 bytes per second over 29ms
}

// A paced transport asks when it may send, and reports what it did.
func ExamplePacer() {
	var p congestion.Pacer
	p.SetRate(1_500_000) // 12 Mbit/s
	p.SetQuantum(3000)
	var now congestion.Time
	for range 6 {
		now = p.NextSend(now) // a transport arms a timer
		fmt.Println(now)
		p.OnSent(now, 1500)
	}
	// Output:
	// 0s
	// 0s
	// 2ms
	// 2ms
	// 4ms
	// 4ms
}
