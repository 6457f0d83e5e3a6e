// Package tap is a stack.LinkEndpoint on a Linux TAP or TUN device.
//
// New opens (and, with CAP_NET_ADMIN, creates) the device by name, or takes
// descriptors that somebody else opened, as a sandbox does:
//
//	ep, err := tap.New(tap.Options{Name: "tap0"})
//	if err != nil { ... }
//	s.CreateNIC(1, ep)
//
// The other end of the device is an ordinary interface of the kernel: give it
// an address and bring it up with ip(8). If it is up before New opens the
// device, the kernel may drop the first packets that it sends: it notices late
// that somebody is there.
//
// # Offloads
//
// Every frame carries a virtio-net header. Towards the kernel, a transport may
// leave the checksum and the segmentation of up to 64 KiB to it
// (stack.HostGSOSupported); from the kernel come segments of up to 64 KiB
// whose checksums nobody computed, because they never left memory. The
// endpoint verifies what the kernel did not vouch for before it delivers, so
// that the stack need not look again (stack.CapabilityRXChecksumOffload). It
// does not advertise stack.CapabilityTXChecksumOffload: what is not TCP computes
// its checksum.
//
// Checksums that are not there yet do not matter to a stack that is the
// packet's last stop. A stack that forwards packets to another NIC wants
// Options.NoOffload.
//
// # Backpressure and errors
//
// WritePackets never blocks. When the device takes no more, it returns how many
// packets are gone and *tcpip.ErrNoBufferSpace for the next: that one was not
// sent, so a transport should neither count it as in flight nor as lost.
//
// A bad frame is counted (Stats) and dropped. A device that is down refuses
// packets until it is up again. A device that is deleted ends the endpoint: it
// closes itself and calls Options.OnFailure once.
//
// Wait waits for the last delivery. gVisor's Stack.Wait and Stack.Destroy call it
// with a lock held that the delivery may need: remove the NIC first
// (Stack.RemoveNIC), then destroy the stack.
package tap
