// Package xdp is a stack.LinkEndpoint on AF_XDP sockets: the frames of a Linux
// device's receive queues, without the kernel's network stack between.
//
//	ep, err := xdp.New(xdp.Options{Name: "eth1"})
//	if err != nil { ... }
//	s.CreateNIC(1, ep)
//
// From then on what the device receives is the netstack's, and the kernel gets
// only what Options.Filter leaves to it. The netstack has the device's own link
// address unless told otherwise.
//
// # Privileges
//
// New takes CAP_NET_RAW for the sockets and CAP_BPF and CAP_NET_ADMIN for the XDP
// program, the latter two outside any user namespace. The program is attached by a
// BPF link: it is gone when the endpoint is closed or the process ends, however it
// does. A sandbox without privileges lets another process call Prepare and hand
// the descriptors over:
//
//	p, err := xdp.Prepare(xdp.Options{Name: "eth1"})  // in the launcher
//	ep, err := xdp.New(xdp.Options{FDs: fds, Device: &p.Device}) // in the sandbox
//
// # Modes
//
// New tries zero-copy, then native XDP with one copy, and then generic XDP, unless
// Options.Mode names one; Endpoint.Mode says which it is. Frames of an MTU above
// 3822 bytes take several buffers, which the kernel and the driver have to support;
// New says so if they do not.
//
// # Segments and checksums
//
// XDP knows no offloads, so the endpoint does that work itself: it cuts what TCP
// sends in one piece (stack.HostGSOSupported) into frames as it copies them into
// the memory shared with the kernel, computes their checksums, and sends them with
// one system call. It verifies the checksums of all that it receives
// (stack.CapabilityRXChecksumOffload), so that the stack need not look again, and
// puts consecutive TCP segments of one batch together. It
// does not advertise stack.CapabilityTXChecksumOffload: what is not TCP computes its
// checksum.
//
// On veth and in generic mode frames come without a checksum from senders on the
// same machine, who leave it to a device that never was; the endpoint recognizes
// them and completes the checksum. In generic mode such frames may also be segments
// of up to 64 KiB, which suits a stack that is their last stop and no other.
//
// # Backpressure and errors
//
// When all transmit frames are with the kernel, WritePackets returns how many
// packets are gone and *tcpip.ErrNoBufferSpace for the next, waits, or drops
// (Options.Backpressure). A bad frame, descriptor or completion is counted (Stats)
// and dropped. A device that is down refuses packets until it is up again. A device
// that is deleted ends the endpoint within about a second: it closes itself and
// calls Options.OnFailure once.
//
// docs/xdp.md has more, on devices without hardware among others.
package xdp
