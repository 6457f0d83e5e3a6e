package arp

import (
	"bytes"
	"fmt"
	"slices"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// State is a neighbour's state (RFC 4861 §7.3.2) under the name that ip-neighbour(8) gives it.
type State stack.NeighborState

// The states.
const (
	None       = State(stack.Unknown)
	Incomplete = State(stack.Incomplete)
	Reachable  = State(stack.Reachable)
	Stale      = State(stack.Stale)
	Delay      = State(stack.Delay)
	Probing    = State(stack.Probe)
	Permanent  = State(stack.Static)
	Failed     = State(stack.Unreachable)
)

var stateNames = map[State]string{
	None: "NONE", Incomplete: "INCOMPLETE", Reachable: "REACHABLE", Stale: "STALE", Delay: "DELAY", Probing: "PROBE", Permanent: "PERMANENT", Failed: "FAILED",
}

// String returns the state's name, such as REACHABLE.
func (s State) String() string {
	if n, ok := stateNames[s]; ok {
		return n
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Neighbor is an entry of the neighbour cache.
type Neighbor struct {
	NIC  tcpip.NICID
	Addr tcpip.Address
	// LinkAddr is "" while the address is not resolved.
	LinkAddr tcpip.LinkAddress
	State    State
	// Router says that the address is a gateway in the stack's route table, or protected by the options. It is false in events.
	Router bool
	// Updated is when State or LinkAddr last changed.
	Updated tcpip.MonotonicTime
}

// String formats the entry as ip-neighbour(8) does, the interface by its number.
func (n Neighbor) String() string {
	s := fmt.Sprintf("%s dev %d", n.Addr, n.NIC)
	if n.LinkAddr != "" && n.State != Incomplete {
		s += " lladdr " + n.LinkAddr.String()
	}
	if n.Router {
		s += " router"
	}
	return s + " " + n.State.String()
}

// Neighbors lists the entries of an interface, by address. Errors: *tcpip.ErrUnknownNICID, and *tcpip.ErrNotSupported if the link resolves nothing.
func (p *Protocol) Neighbors(nic tcpip.NICID) ([]Neighbor, tcpip.Error) {
	e, err := p.endpoint(nic)
	if err != nil {
		return nil, err
	}
	entries, err := p.stack.Neighbors(nic, header.IPv4ProtocolNumber)
	if err != nil {
		return nil, err
	}
	g := e.guards()
	list := make([]Neighbor, len(entries))
	for i, n := range entries {
		list[i] = neighbor(nic, n)
		list[i].Router = g.has(n.Addr)
	}
	slices.SortFunc(list, func(a, b Neighbor) int {
		return bytes.Compare(a.Addr.AsSlice(), b.Addr.AsSlice())
	})
	return list, nil
}

func neighbor(nic tcpip.NICID, n stack.NeighborEntry) Neighbor {
	return Neighbor{NIC: nic, Addr: n.Addr, LinkAddr: n.LinkAddr, State: State(n.State), Updated: n.UpdatedAt}
}

// AddPermanent adds an entry that neither expires nor is changed by any packet, or replaces the one that is there. An entry that was added through
// Stack.AddStaticNeighbor is as safe, but attempts to change it are not counted. Errors: as Neighbors, and *tcpip.ErrBadAddress if addr is not a host's IPv4
// address, or link not a station's Ethernet address.
func (p *Protocol) AddPermanent(nic tcpip.NICID, addr tcpip.Address, link tcpip.LinkAddress) tcpip.Error {
	e, err := p.endpoint(nic)
	if err != nil {
		return err
	}
	if addr.BitLen() != 32 || !isHost(addr) || !header.IsValidUnicastEthernetAddress(link) {
		return &tcpip.ErrBadAddress{}
	}
	g := e.guards()
	e.order.Lock()
	defer e.order.Unlock()
	if err := p.stack.AddStaticNeighbor(nic, header.IPv4ProtocolNumber, addr, link); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.peers.setPermanent(e.peers.use(addr, g.has), link, e.now())
	return nil
}

// Delete removes an entry, permanent or not. Errors: as Neighbors, and *tcpip.ErrBadAddress if there is no such entry.
func (p *Protocol) Delete(nic tcpip.NICID, addr tcpip.Address) tcpip.Error {
	e, err := p.endpoint(nic)
	if err != nil {
		return err
	}
	e.order.Lock()
	defer e.order.Unlock()
	e.mu.Lock()
	if peer := e.peers.byAddr[addr]; peer != nil {
		e.peers.remove(peer)
	}
	e.mu.Unlock()
	return p.stack.RemoveNeighbor(nic, header.IPv4ProtocolNumber, addr)
}

// Flush removes the entries for which match is true, all but the permanent ones if match is nil, and returns their number. Errors: as Neighbors.
func (p *Protocol) Flush(nic tcpip.NICID, match func(Neighbor) bool) (int, tcpip.Error) {
	list, err := p.Neighbors(nic)
	if err != nil {
		return 0, err
	}
	if match == nil {
		match = func(n Neighbor) bool { return n.State != Permanent }
	}
	flushed := 0
	for _, n := range list {
		if match(n) && p.Delete(nic, n.Addr) == nil {
			flushed++
		}
	}
	return flushed, nil
}
