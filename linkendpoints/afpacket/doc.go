// Package afpacket is a stack.LinkEndpoint on a packet socket of Linux: a
// netstack's own access to an Ethernet device that the kernel has, such as a
// container's veth or a NIC.
//
// New opens the device by name, which takes CAP_NET_RAW, or takes sockets that
// somebody else opened, as a sandbox does:
//
//	ep, err := afpacket.New(afpacket.Options{Name: "eth0"})
//	if err != nil { ... }
//	s.CreateNIC(1, ep)
//
// The netstack has the device's Ethernet address unless Options.LinkAddress
// gives it one of its own. The kernel sees the same frames: a device whose
// address the netstack shares should have no IP address, or the kernel answers
// too.
//
// # Receiving
//
// Each queue has a ring of small slots that it shares with the kernel
// (TPACKET_V2), so that a frame of MTU 1500 costs no system call. What is
// larger, a super-segment above all, comes through the socket's receive queue
// with one call and one copy. Frames are delivered inline on the queue's
// goroutine, as soon as they arrive: there is no timer that a lone frame waits
// for. Several queues share the flows (PACKET_FANOUT by hash).
//
// # Offloads
//
// Every frame carries a virtio-net header. Towards the device, a transport may
// leave the checksum and the segmentation of up to 64 KiB to the kernel
// (stack.HostGSOSupported); from it come segments of up to 64 KiB that the
// kernel's GRO merged or that never left memory. The endpoint verifies what the
// kernel did not vouch for before it delivers, so that the stack need not look
// again (stack.CapabilityRXChecksumOffload). UDP super-segments (UDP_SEGMENT,
// UDP GRO) are cut into the datagrams that they stand for.
//
// A stack that forwards packets wants Options.NoOffload: then TCP
// super-segments are cut too and all checksums are completed.
//
// # Backpressure and errors
//
// What happens to a packet for which the kernel has no room is
// Options.Backpressure: it is refused, waited for, or dropped.
//
// A bad frame is counted (Stats) and dropped. A device that is down refuses
// packets until it is up again. A device that is deleted ends the endpoint: it
// closes itself and calls Options.OnFailure once.
//
// Wait waits for the last delivery. gVisor's Stack.Wait and Stack.Destroy call it
// with a lock held that the delivery may need: remove the NIC first
// (Stack.RemoveNIC), then destroy the stack.
//
// The kernel (seen in 6.18) stops filling a ring for good when it meets a
// segmentation type for which there is no virtio-net header, which a virtual
// machine can send into its own TAP device. The endpoint notices within half
// a second and makes the ring anew; Stats.RxRingRebuilt counts that.
package afpacket
