package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
)

// ping sends an echo request with size bytes of data from the kernel's end (RFC
// 792, RFC 4443, §4.1) and waits for the reply.
func (l *lab) ping(version string, size int) {
	l.t.Helper()
	network, request, reply := "ip4:icmp", byte(8), byte(0)
	if version == "IPv6" {
		network, request, reply = "ip6:ipv6-icmp", 128, 129
	}
	c, err := l.Dial(network, stackIP[version], nil)
	if err != nil {
		l.t.Fatal(err)
	}
	defer c.Close()
	data, err := io.ReadAll(pattern(int64(size)))
	if err != nil {
		l.t.Fatal(err)
	}
	echo := slices.Concat([]byte{request, 0, 0, 0, 0, 7, 0, 1}, data)
	if version == "IPv4" { // the kernel does it for IPv6
		binary.BigEndian.PutUint16(echo[2:], ^checksum.Checksum(echo, 0))
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(echo); err != nil {
		l.t.Fatal(err)
	}
	for b := make([]byte, 1<<16); ; {
		n, _, err := c.(*net.IPConn).ReadFrom(b)
		if err != nil {
			l.t.Fatalf("no reply to a ping: %v", err)
		}
		if n >= 8 && b[0] == reply {
			if !bytes.Equal(b[4:n], echo[4:]) {
				l.t.Errorf("the reply to a ping has other data")
			}
			return
		}
	}
}
