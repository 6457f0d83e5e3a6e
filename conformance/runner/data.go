package runner

import (
	"bytes"
	"fmt"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// The octets of both streams are a function of their place, so that data that
// comes out wrong, twice or at the wrong place is noticed in whatever packet
// or read it turns up.

// writtenOctet is the octet that the application writes at offset i.
func writtenOctet(i uint32) byte { return byte(i ^ i>>8*29 ^ 0x55) }

// peerOctet is the octet that the peer sends at offset i, unless the script
// says otherwise.
func peerOctet(i uint32) byte { return byte(i ^ i>>8*31 ^ 0xaa) }

// maxStream bounds how much a script can write to one socket.
const maxStream = 256 << 20

// file is a descriptor of the script.
type file struct {
	live target.FD
	conn *conn
	// written is what the application has written, or is trying to write.
	written []byte
	// read is how much it has read.
	read uint32
}

// produce returns the next n octets to write.
func (f *file) produce(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = writtenOctet(uint32(len(f.written) + i))
	}
	return b
}

// peerPayload returns the payload of a segment from the peer: what the script
// gives, or the octets of the stream at its place.
func (r *run) peerPayload(c *conn, t *script.TCP) []byte {
	offset := t.Seq - 1
	if t.Flags&script.SYN != 0 {
		offset = 0
	}
	if t.Payload != nil {
		c.remember(offset, t.Payload)
		return t.Payload
	}
	b := make([]byte, t.Len)
	for i := range b {
		b[i] = peerOctet(offset + uint32(i))
	}
	return b
}

// remember notes octets that the script gives.
func (c *conn) remember(offset uint32, b []byte) {
	if c.peer == nil {
		c.peer = make(map[uint32]byte)
	}
	for i, v := range b {
		c.peer[offset+uint32(i)] = v
	}
}

// checkRead says what is wrong with data that was read, or "", and moves on in
// the stream unless the data was only peeked at.
func (f *file) checkRead(data []byte, peek bool) string {
	start := f.read
	if !peek {
		f.read += uint32(len(data))
	}
	if f.conn == nil || f.conn.file != f || f.conn.unverified {
		return ""
	}
	expected := make([]byte, len(data))
	for i := range expected {
		at := start + uint32(i)
		if v, ok := f.conn.peer[at]; ok {
			expected[i] = v
		} else {
			expected[i] = peerOctet(at)
		}
	}
	if bytes.Equal(data, expected) {
		return ""
	}
	i := firstDifference(data, expected)
	return fmt.Sprintf("the data read is wrong: octet %d of the stream is %#02x, the peer sent %#02x", start+uint32(i), data[i], expected[i])
}
