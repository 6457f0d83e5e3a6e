package linktest

import (
	"sync"
	"sync/atomic"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// IsAttached follows Attach; Wait does not block before there is anything to
// wait for.
func testAttach(t *testing.T, h *harness) {
	if h.ep.IsAttached() {
		t.Error("IsAttached is true before Attach")
	}
	h.wait()
	h.attach()
	h.ep.Attach(nil)
	if h.ep.IsAttached() {
		t.Error("IsAttached is true after Attach(nil)")
	}
}

// After Attach(nil) and Wait nothing is delivered. Both may be called again.
func testDetach(t *testing.T, h *harness) {
	h.attach()
	h.send(h.frame(h.ep.LinkAddress(), numbered(1, 100)))
	h.delivery()
	for range 2 {
		h.returns("Attach(nil)", func() { h.ep.Attach(nil) })
		h.wait()
	}
	h.sink.close()
	for i := range 10 {
		_ = h.peer.Send(h.frame(h.ep.LinkAddress(), numbered(2+i, 100)))
	}
	// Whatever could still deliver is gone once Close and Wait have returned.
	h.ep.Close()
	h.wait()
	if h.sink.late != 0 {
		t.Errorf("%d packets were delivered after Attach(nil) and Wait", h.sink.late)
	}
}

// A stack holds locks while it detaches an endpoint, and a delivery may want
// the same locks. So Attach(nil) must not wait for a delivery.
func testDetachFromDelivery(t *testing.T, h *harness) {
	detached := make(chan struct{})
	var once sync.Once
	h.sink.onDelivery = func(delivery) {
		once.Do(func() {
			h.ep.Attach(nil)
			close(detached)
		})
	}
	h.attach()
	h.send(h.frame(h.ep.LinkAddress(), numbered(1, 100)))
	h.returns("Attach(nil) within a delivery", func() { <-detached })
	h.wait()
}

// load sends in both directions until stop is called.
func (h *harness) load() (stop func()) {
	var stopping atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; !stopping.Load(); i++ {
			_ = h.peer.Send(h.frame(h.ep.LinkAddress(), numbered(i, 1000)))
		}
	})
	for range 2 {
		wg.Go(func() {
			for i := 0; !stopping.Load(); i += 2 {
				h.write(h.packet(i, 1000, 1<<16), h.packet(i+1, 100, 1<<16))
			}
		})
	}
	return func() {
		stopping.Store(true)
		wg.Wait()
	}
}

// Detaching while packets fly in both directions neither hangs nor races.
func testDetachUnderLoad(t *testing.T, h *harness) {
	h.attach()
	stop := h.load()
	defer stop()
	for range 10 {
		h.delivery()
	}
	h.returns("Attach(nil) under load", func() { h.ep.Attach(nil) })
	h.wait()
	h.sink.close()
	stop()
	if h.sink.late != 0 {
		t.Errorf("%d packets were delivered after Attach(nil) and Wait", h.sink.late)
	}
}

// An endpoint that was detached can be attached again, to another stack.
func testReattach(t *testing.T, h *harness) {
	for i := range 5 {
		h.attach()
		h.send(h.frame(h.ep.LinkAddress(), numbered(i, 100)))
		for {
			// Frames may have been waiting for the endpoint to come back.
			if d := h.delivery(); d.number == i {
				break
			}
		}
		h.ep.Attach(nil)
	}
}

// Close may be called again, runs the on-close action once, and leaves an
// endpoint that refuses packets.
func testClose(t *testing.T, h *harness) {
	var actions atomic.Int32
	h.ep.SetOnCloseAction(func() { actions.Add(1) })
	h.attach()
	h.ep.Attach(nil)
	for range 2 {
		h.returns("Close", h.ep.Close)
		h.wait()
	}
	if n := actions.Load(); n > 1 {
		t.Errorf("the on-close action ran %d times", n)
	}
	if n, err := h.write(h.packet(1, 100, 1<<16)); n != 0 || err == nil {
		t.Errorf("WritePackets after Close = %d, %v, want an error", n, err)
	}
	h.ep.Attach(h.sink)
	h.ep.Attach(nil)
	h.wait()
}

// An endpoint that never was attached can be closed.
func testCloseUnattached(t *testing.T, h *harness) {
	h.returns("Close", h.ep.Close)
	h.wait()
}

// Close without Attach(nil) stops the receivers.
func testCloseWithoutDetach(t *testing.T, h *harness) {
	h.attach()
	h.returns("Close", h.ep.Close)
	h.wait()
}

// Closing while packets fly in both directions neither hangs nor races.
func testCloseUnderLoad(t *testing.T, h *harness) {
	h.attach()
	stop := h.load()
	defer stop()
	for range 10 {
		h.delivery()
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { h.returns("Close under load", h.ep.Close) })
	}
	wg.Wait()
	h.wait()
	stop()
}

// A stack can remove its NIC while packets arrive.
func testRemoveNIC(t *testing.T, h *harness) {
	s := stack.New(stack.Options{NetworkProtocols: []stack.NetworkProtocolFactory{ipv4.NewProtocol}})
	defer s.Destroy()
	if err := s.CreateNIC(1, h.ep); err != nil {
		t.Fatalf("CreateNIC: %v", err)
	}
	stop := h.load()
	defer stop()
	h.returns("RemoveNIC", func() {
		if err := s.RemoveNIC(1); err != nil {
			t.Errorf("RemoveNIC: %v", err)
		}
	})
	h.wait()
	stop()
}
