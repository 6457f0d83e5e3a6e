package tcpx

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// secretLen is the length of each secret in bytes.
const secretLen = 16

// secrets are the keys of what an off-path attacker must not guess. They are drawn once from the stack's secure source.
type secrets struct {
	isn, timestamp, cookie [secretLen]byte
}

// init draws the secrets. A source that fails leaves the stack without protection, so that there is no way to go on.
func (s *secrets) init(random io.Reader) {
	for _, key := range []*[secretLen]byte{&s.isn, &s.timestamp, &s.cookie} {
		if _, err := io.ReadFull(random, key[:]); err != nil {
			panic(fmt.Sprintf("tcpx: the stack's secure random source failed: %v", err))
		}
	}
}

// keyedHash is a pseudorandom function of up to two addresses, two ports and two further words: a hash whose input has a fixed length and starts with the key.
func keyedHash(key *[secretLen]byte, id *stack.TransportEndpointID, ports bool, x, y uint32) uint64 {
	var b [secretLen + 2*16 + 2*2 + 2*4 + 2]byte
	copy(b[:], key[:])
	putAddress(b[16:], id.LocalAddress)
	putAddress(b[32:], id.RemoteAddress)
	if ports {
		binary.BigEndian.PutUint16(b[48:], id.LocalPort)
		binary.BigEndian.PutUint16(b[50:], id.RemotePort)
	}
	binary.BigEndian.PutUint32(b[52:], x)
	binary.BigEndian.PutUint32(b[56:], y)
	b[60], b[61] = byte(id.LocalAddress.Len()), byte(id.RemoteAddress.Len())
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint64(sum[:])
}

// putAddress writes an address of 4 or 16 octets without allocating.
func putAddress(b []byte, a tcpip.Address) {
	switch a.Len() {
	case 4:
		v := a.As4()
		copy(b, v[:])
	case 16:
		v := a.As16()
		copy(b, v[:])
	}
}

// isnTick is the period of the clock M of RFC 6528 §3 (RFC 9293 MUST-8).
const isnTick = 4 * time.Microsecond

// isn returns the initial sequence number M + F(addresses, ports, secret) of RFC 6528 §3.
func (p *protocol) isn(id *stack.TransportEndpointID, now tcb.Time) tcb.Seq {
	return tcb.Seq(uint32(now/isnTick) + uint32(keyedHash(&p.secrets.isn, id, true, 0, 0)))
}

// timestampOffset returns the offset of the timestamp clock: the same for all connections of two addresses, so that timestamps stay monotonic from one
// connection to the next (RFC 7323 §5.4).
func (p *protocol) timestampOffset(id *stack.TransportEndpointID) uint32 {
	return uint32(keyedHash(&p.secrets.timestamp, id, false, 0, 0))
}
