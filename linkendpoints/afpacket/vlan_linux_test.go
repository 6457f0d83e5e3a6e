package afpacket

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/plumbline/plumbline/tcpx"
)

// tagOf receives the next frame on a packet socket with PACKET_AUXDATA, and returns
// what the kernel says of its tag (struct tpacket_auxdata), which it has taken out.
func tagOf(fd int, b []byte) (frame []byte, tag vlanTag, err error) {
	const size = 20
	oob := make([]byte, unix.CmsgSpace(size))
	n, oobn, _, _, err := unix.Recvmsg(fd, b, oob, 0)
	if err != nil {
		return nil, tag, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 || len(messages[0].Data) < size {
		return nil, tag, fmt.Errorf("no word on the tag: %v, %w", messages, err)
	}
	aux := messages[0].Data
	if binary.NativeEndian.Uint32(aux)&unix.TP_STATUS_VLAN_VALID != 0 {
		tag = vlanTag{true, binary.NativeEndian.Uint16(aux[18:]), binary.NativeEndian.Uint16(aux[16:])}
	}
	return b[:n], tag, nil
}

// What a member of a VLAN sends has its tag on the wire, packets and segments that the
// device cuts, and members of one VLAN at both ends of a cable reach each other.
func testVLANWire(t *testing.T, c *cable) {
	e := c.open(t, Options{VLAN: 7})
	peer := newPacketSocket(t, c)
	if err := unix.SetsockoptInt(peer.FD, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1); err != nil {
		t.Fatal(err)
	}
	pkt := udpPacket(e, 700)
	want := bytes.Clone(pkt.Data().AsRange().ToSlice())
	if n, err := write(e, pkt); n != 1 || err != nil {
		t.Fatalf("WritePackets = %d, %v", n, err)
	}
	b := make([]byte, 2048)
	for {
		frame, tag, err := tagOf(peer.FD, b)
		if errors.Is(err, unix.EAGAIN) {
			peer.Poll(unix.POLLIN)
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasSuffix(frame, want) {
			continue // the kernel's own
		}
		if !tag.present || tag.tpid != unix.ETH_P_8021Q || tag.tci != 7 || header.Ethernet(frame).Type() != header.IPv4ProtocolNumber {
			t.Errorf("on the wire with tag %+v, of type %#x", tag, header.Ethernet(frame).Type())
		}
		break
	}

	other, err := c.tryOpen(Options{Name: c.Kernels.Attrs().Name, VLAN: 7})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		other.Close()
		other.Wait()
	})
	near := newNetstack(t, e, tcpx.NewProtocol, "10.2.0.1/24")
	far := newNetstack(t, other, stockTCP, "10.2.0.2/24")
	defer serveEcho(t, far, header.IPv4ProtocolNumber)()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	conn, err := gonet.DialContextTCP(ctx, near, tcpip.FullAddress{Addr: tcpip.AddrFrom4([4]byte{10, 2, 0, 2}), Port: 7}, header.IPv4ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	data := bytes.Repeat([]byte("a tag of four bytes"), 50_000)
	go func() {
		_, _ = conn.Write(data)
		_ = conn.CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
	}
	if s := e.Stats(); s.TxGSO == 0 || s.RxGSO == 0 {
		t.Errorf("no segment of more than one MSS passed: %+v", s)
	}
}
