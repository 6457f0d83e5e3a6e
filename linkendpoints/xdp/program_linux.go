//go:build amd64 || arm64

package xdp

import (
	"encoding/binary"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// The fields of struct xdp_md (linux/bpf.h) that the program reads.
const (
	mdData         = 0
	mdDataEnd      = 4
	mdRxQueueIndex = 16
)

// xdpPass is the verdict by which the kernel keeps a frame.
const xdpPass = 2

// The labels of the program.
const (
	labelRedirect = "redirect"
	labelPass     = "pass"
	labelIPv6     = "ipv6"
	labelPort     = "port"
	labelUDP      = "udp"
)

// program returns the instructions that send a frame to the socket of its queue
// and leave to the kernel what f says, and everything on queues that have no
// socket. The map is sockets; addr is the endpoint's link address.
func program(f *Filter, addr tcpip.LinkAddress, sockets int) asm.Instructions {
	filtered := f.OtherHosts || len(f.EtherTypes) != 0 || f.looksAtPorts()
	p := asm.Instructions{asm.Mov.Reg(asm.R6, asm.R1)}
	if filtered {
		p = append(p, filter(f, addr)...)
	}
	p = append(p,
		asm.LoadMem(asm.R2, asm.R6, mdRxQueueIndex, asm.Word).WithSymbol(labelRedirect),
		asm.LoadMapPtr(asm.R1, sockets),
		asm.Mov.Imm(asm.R3, xdpPass), // if there is no socket
		asm.FnRedirectMap.Call(),
		asm.Return(),
	)
	if filtered { // the kernel's verifier refuses what is never reached
		p = append(p, asm.Mov.Imm(asm.R0, xdpPass).WithSymbol(labelPass), asm.Return())
	}
	return p
}

// filter returns the instructions that go to labelPass for what the kernel
// keeps, and otherwise to labelRedirect or their end.
func filter(f *Filter, addr tcpip.LinkAddress) asm.Instructions {
	p := asm.Instructions{
		asm.LoadMem(asm.R7, asm.R6, mdData, asm.Word),
		asm.LoadMem(asm.R8, asm.R6, mdDataEnd, asm.Word),
	}
	p = append(p, atLeast(header.EthernetMinimumSize)...)
	if f.OtherHosts {
		p = append(p, passOtherHosts(addr)...)
	}
	p = append(p, asm.LoadMem(asm.R9, asm.R7, 12, asm.Half)) // EtherType
	for _, t := range f.EtherTypes {
		p = append(p, asm.JEq.Imm(asm.R9, network16(uint16(t)), labelPass))
	}
	if f.looksAtPorts() {
		p = append(p, passPorts(f)...)
	}
	return p
}

// atLeast goes to labelRedirect unless the frame has n bytes.
func atLeast(n int32) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R2, asm.R7),
		asm.Add.Imm(asm.R2, n),
		asm.JGT.Reg(asm.R2, asm.R8, labelRedirect),
	}
}

// passOtherHosts goes to labelPass for unicast frames that are not for addr.
func passOtherHosts(addr tcpip.LinkAddress) asm.Instructions {
	const mine = "mine"
	return asm.Instructions{
		asm.LoadMem(asm.R2, asm.R7, 0, asm.Byte),
		asm.And.Imm(asm.R2, 1),
		asm.JNE.Imm(asm.R2, 0, mine),
		asm.LoadMem(asm.R2, asm.R7, 0, asm.Half),
		asm.JNE.Imm(asm.R2, host16(addr[0:]), labelPass),
		asm.LoadMem(asm.R2, asm.R7, 2, asm.Half),
		asm.JNE.Imm(asm.R2, host16(addr[2:]), labelPass),
		asm.LoadMem(asm.R2, asm.R7, 4, asm.Half),
		asm.JNE.Imm(asm.R2, host16(addr[4:]), labelPass),
		asm.Mov.Imm(asm.R2, 0).WithSymbol(mine),
	}
}

// passPorts goes to labelPass for what is sent to the ports of f. R9 has the
// EtherType.
func passPorts(f *Filter) asm.Instructions {
	const ip = header.EthernetMinimumSize
	p := asm.Instructions{
		asm.JEq.Imm(asm.R9, network16(uint16(header.IPv6ProtocolNumber)), labelIPv6),
		asm.JNE.Imm(asm.R9, network16(uint16(header.IPv4ProtocolNumber)), labelRedirect),
	}
	p = append(p, atLeast(ip+header.IPv4MinimumSize)...)
	p = append(p,
		asm.LoadMem(asm.R2, asm.R7, ip+6, asm.Half), // flags and fragment offset
		asm.And.Imm(asm.R2, network16(0x3fff)),      // MF and the offset
		asm.JNE.Imm(asm.R2, 0, labelRedirect),
		asm.LoadMem(asm.R9, asm.R7, ip+9, asm.Byte), // protocol
		asm.LoadMem(asm.R2, asm.R7, ip, asm.Byte),   // version and header length
		asm.And.Imm(asm.R2, 0xf),
		asm.LSh.Imm(asm.R2, 2),
		asm.Add.Reg(asm.R7, asm.R2),
		asm.Add.Imm(asm.R7, ip),
		asm.Ja.Label(labelPort),
	)
	v6 := atLeast(ip + header.IPv6MinimumSize)
	v6[0] = v6[0].WithSymbol(labelIPv6)
	p = append(p, v6...)
	p = append(p,
		asm.LoadMem(asm.R9, asm.R7, ip+6, asm.Byte), // next header
		asm.Add.Imm(asm.R7, ip+header.IPv6MinimumSize),
	)
	// R7 is at the transport header, R9 has its protocol.
	port := atLeast(4)
	port[0] = port[0].WithSymbol(labelPort)
	p = append(p, port...)
	p = append(p,
		asm.LoadMem(asm.R2, asm.R7, 2, asm.Half), // destination port
		asm.JEq.Imm(asm.R9, int32(header.UDPProtocolNumber), labelUDP),
		asm.JNE.Imm(asm.R9, int32(header.TCPProtocolNumber), labelRedirect),
	)
	for _, n := range f.TCPPorts {
		p = append(p, asm.JEq.Imm(asm.R2, network16(n), labelPass))
	}
	p = append(p, asm.Ja.Label(labelRedirect), asm.Mov.Imm(asm.R3, 0).WithSymbol(labelUDP))
	for _, n := range f.UDPPorts {
		p = append(p, asm.JEq.Imm(asm.R2, network16(n), labelPass))
	}
	return p
}

// network16 returns v as a load of two bytes in network order yields it.
func network16(v uint16) int32 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return int32(binary.NativeEndian.Uint16(b[:]))
}

// host16 returns the two bytes at the start of addr as a load yields them.
func host16(addr tcpip.LinkAddress) int32 {
	return int32(binary.NativeEndian.Uint16([]byte(addr[:2])))
}

// loadProgram loads the program. With fragments it accepts frames of more than
// one buffer, which takes Linux 5.18.
func loadProgram(f *Filter, addr tcpip.LinkAddress, sockets *ebpf.Map, fragments bool) (*ebpf.Program, error) {
	var flags uint32
	if fragments {
		flags = unix.BPF_F_XDP_HAS_FRAGS
	}
	return ebpf.NewProgram(&ebpf.ProgramSpec{
		Name:         "plumbline_xdp",
		Type:         ebpf.XDP,
		Instructions: program(f, addr, sockets.FD()),
		License:      "Apache-2.0",
		Flags:        flags,
	})
}
