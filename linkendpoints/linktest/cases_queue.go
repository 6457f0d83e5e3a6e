package linktest

import (
	"runtime"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// stuck sends packet 0, whose delivery does not return until the caller calls what
// stuck returns, and attaches the dispatcher. It returns when that delivery is under
// way.
func (h *harness) stuck() (release func()) {
	h.t.Helper()
	entered, released := make(chan struct{}), make(chan struct{})
	h.sink.onDelivery = func(d delivery) {
		if d.number == 0 {
			close(entered)
			<-released
		}
	}
	h.attach()
	h.send(h.frame(h.ep.LinkAddress(), numbered(0, 100)))
	select {
	case <-entered:
	case <-time.After(patience):
		h.t.Fatalf("no delivery\n%s", stacks())
	}
	return func() { close(released) }
}

// manyFlows is more than an endpoint looks for segments to join of at a time, and with
// the packet that is stuck less than 128, which any queue is to hold.
const manyFlows = 100

// Segments of many flows that arrive together, one of each, are all delivered without
// anything that comes after them.
func testReceiveFlows(t *testing.T, h *harness) {
	h.sink.segments = make(chan []byte, manyFlows)
	release := h.stuck()
	for flow := range manyFlows {
		h.send(h.frame(h.ep.LinkAddress(), flowPacket(flow, 0)))
	}
	// An endpoint that queues what it has read, behind the delivery that is stuck, is
	// given the time to read it all, so that it is handled in one go.
	for range 10_000 {
		runtime.Gosched()
	}
	release()
	seen := make(map[uint16]bool)
	for len(seen) < manyFlows {
		select {
		case b := <-h.sink.segments:
			port := header.TCP(b[header.IPv4MinimumSize:]).SourcePort()
			if seen[port] {
				t.Errorf("the segment of flow %d was delivered again", port-1000)
			}
			seen[port] = true
		case <-time.After(patience):
			t.Fatalf("of %d flows the segments of %d were delivered", manyFlows, len(seen))
		}
	}
}

// overload is how many frames arrive while the endpoint is stuck in a delivery: more
// than the queues of most devices hold.
const overload = 1500

// While a delivery takes long queues fill up, and what does not fit is lost. Neither
// ends anything: what was kept is delivered in its order, and what comes later as
// well.
func testReceiveOverload(t *testing.T, h *harness) {
	release := h.stuck()
	for i := 1; i <= overload; i++ {
		if h.peer.Send(h.frame(h.ep.LinkAddress(), numbered(i, 200))) != nil {
			break // the medium is full
		}
	}
	release()
	deadline := time.Now().Add(patience)
	last := -1
	for next := overload + 1; last <= overload; next++ {
		// It is lost as long as the queues are full.
		_ = h.peer.Send(h.frame(h.ep.LinkAddress(), numbered(next, 200)))
		for more := true; more; {
			select {
			case d := <-h.sink.deliveries:
				if d.number <= last {
					t.Fatalf("packet %d was delivered after packet %d", d.number, last)
				}
				last = d.number
			default:
				more = false
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("nothing that came after the queues were full is delivered; the last was %d\n%s", last, stacks())
		}
		runtime.Gosched()
	}
}
