package linkbench

import (
	"fmt"
	"net"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// frameSize is that of the frames in measurements of packet rates: the least
// that Ethernet allows, without its checksum.
const frameSize = 60

// The verdicts of an XDP program (linux/bpf.h).
const (
	xdpPass = 2
	xdpTX   = 3
)

// udpFrame makes a UDP datagram in a frame of frameSize bytes.
func udpFrame(src, dst net.HardwareAddr, from, to string) []byte {
	b := make([]byte, frameSize)
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(src), DstAddr: tcpip.LinkAddress(dst), Type: header.IPv4ProtocolNumber,
	})
	ip := header.IPv4(b[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber),
		SrcAddr: tcpip.AddrFromSlice(net.ParseIP(from).To4()), DstAddr: tcpip.AddrFromSlice(net.ParseIP(to).To4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	udp := header.UDP(ip.Payload())
	udp.Encode(&header.UDPFields{SrcPort: 9, DstPort: 9, Length: uint16(len(udp))})
	xsum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, ip.SourceAddress(), ip.DestinationAddress(), uint16(len(udp)))
	udp.SetChecksum(^checksum.Checksum(udp, xsum))
	return b
}

// generator makes frames arrive. All its calls are from one thread, in the
// namespace of the device.
type generator interface {
	// send makes n frames arrive, a multiple of burst.
	send(n int) error
	close()
}

// burst is how many frames a generator handles at once.
const burst = 64

// liveFrames is a generator that has the kernel run an XDP program on frames
// that it makes up (BPF_F_TEST_XDP_LIVE_FRAMES): faster than any socket.
type liveFrames struct {
	program  *ebpf.Program
	attached link.Link
	options  ebpf.RunOptions
}

// newLiveFrames makes frames arrive at the device with index ifindex, or, with
// verdict xdpTX, at its peer's XDP program.
func newLiveFrames(frame []byte, ifindex int, verdict int32) (*liveFrames, error) {
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()},
	})
	if err != nil {
		return nil, fmt.Errorf("loading the program that sends: %w", err)
	}
	// The kernel rewrites its own code when it begins to run a program and when
	// it ends (BPF dispatcher), which stops all processors and takes longer than
	// the frames do. It need not for one that is attached somewhere.
	attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: loopback, Flags: link.XDPGenericMode})
	if err != nil {
		program.Close()
		return nil, fmt.Errorf("attaching the program that sends: %w", err)
	}
	// struct xdp_md (linux/bpf.h).
	context := struct{ data, dataEnd, dataMeta, ingressIfindex, rxQueueIndex, egressIfindex uint32 }{
		dataEnd: uint32(len(frame)), ingressIfindex: uint32(ifindex),
	}
	const liveFlag = 1 << 1
	return &liveFrames{program, attached, ebpf.RunOptions{Data: frame, Context: context, Flags: liveFlag, BatchSize: burst}}, nil
}

func (g *liveFrames) send(n int) error {
	g.options.Repeat = uint32(n)
	_, err := g.program.Run(&g.options)
	return err
}

func (g *liveFrames) close() {
	g.attached.Close()
	g.program.Close()
}

// loopback is the index of the loopback device, the first of every namespace.
const loopback = 1

// socketFrames is a generator that writes to a packet socket on the kernel's end
// of a TAP device.
type socketFrames struct {
	fd       int
	frame    []byte
	iovec    unix.Iovec
	messages [burst]mmsghdr
}

// mmsghdr is struct mmsghdr (recvmmsg(2)).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

func newSocketFrames(frame []byte, ifindex int) (*socketFrames, error) {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening a packet socket to send: %w", err)
	}
	if err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1); err == nil {
		err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: ifindex})
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("preparing a packet socket to send: %w", err)
	}
	g := &socketFrames{fd: fd, frame: frame}
	g.iovec.Base = &frame[0]
	g.iovec.SetLen(len(frame))
	for i := range g.messages {
		g.messages[i].hdr.Iov = &g.iovec
		g.messages[i].hdr.SetIovlen(1)
	}
	return g, nil
}

func (g *socketFrames) send(n int) error {
	for ; n > 0; n -= burst {
		_, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(g.fd), uintptr(unsafe.Pointer(&g.messages[0])), burst, 0, 0, 0)
		// A device that is full loses them, which is counted where they would have
		// arrived.
		if errno != 0 && errno != unix.ENOBUFS && errno != unix.EAGAIN {
			return fmt.Errorf("sending: %w", errno)
		}
	}
	return nil
}

func (g *socketFrames) close() { unix.Close(g.fd) }

// flood sends until time is up, at rate frames a second or, if that is 0, as
// fast as it can. It returns how many frames it sent and its own CPU time.
func flood(g generator, rate float64, during time.Duration) (sent int, cpu time.Duration, err error) {
	const chunk = 8 * burst
	before, start := threadTime(), time.Now()
	for time.Since(start) < during {
		if rate > 0 && float64(sent) > rate*time.Since(start).Seconds() {
			continue // a timer would be too coarse
		}
		n := chunk
		if rate > 0 {
			n = burst
		}
		if err := g.send(n); err != nil {
			return sent, 0, err
		}
		sent += n
	}
	return sent, threadTime() - before, nil
}

// threadTime returns the CPU time of the calling thread.
func threadTime() time.Duration { return cpuTime(unix.RUSAGE_THREAD) }

// processTime returns the CPU time of this process.
func processTime() time.Duration { return cpuTime(unix.RUSAGE_SELF) }

func cpuTime(who int) time.Duration {
	var u unix.Rusage
	if unix.Getrusage(who, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// redirectTo attaches a program to a device that sends what its first queue
// receives to an AF_XDP socket. It stays as long as the process.
func redirectTo(ifindex, fd int) error {
	sockets, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.XSKMap, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		return fmt.Errorf("making a socket map: %w", err)
	}
	if err := sockets.Put(uint32(0), uint32(fd)); err != nil {
		return fmt.Errorf("filling a socket map: %w", err)
	}
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.XDP, License: "Apache-2.0",
		Instructions: asm.Instructions{
			asm.Mov.Imm(asm.R2, 0),
			asm.LoadMapPtr(asm.R1, sockets.FD()),
			asm.Mov.Imm(asm.R3, xdpPass),
			asm.FnRedirectMap.Call(),
			asm.Return(),
		},
	})
	if err != nil {
		return fmt.Errorf("loading an XDP program: %w", err)
	}
	attached, err := link.AttachXDP(link.XDPOptions{Program: program, Interface: ifindex})
	if err != nil {
		return fmt.Errorf("attaching an XDP program: %w", err)
	}
	keep = append(keep, sockets, program, attached)
	return nil
}

// keep are objects that close themselves when they are collected.
var keep []any
