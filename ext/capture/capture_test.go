package capture

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/faketime"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	ours   = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\x01")
	theirs = tcpip.LinkAddress("\x02\x00\x5e\x00\x53\x02")
)

// nobody is a dispatcher that drops everything.
type nobody struct{}

func (nobody) DeliverNetworkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}
func (nobody) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer)    {}

// link is a capture of an in-memory link.
type link struct {
	*Endpoint
	channel *channel.Endpoint
	clock   *faketime.ManualClock
}

// newLink makes a capture of a link with Ethernet headers, or without.
func newLink(t *testing.T, w io.Writer, ether bool, opts Options) *link {
	t.Helper()
	l := &link{channel: channel.New(4, 65535, ours), clock: faketime.NewManualClock()}
	var below stack.LinkEndpoint = l.channel
	if ether {
		below = ethernet.New(l.channel)
	}
	opts.Clock = l.clock
	ep, err := New(below, w, opts)
	if err != nil {
		t.Fatal(err)
	}
	l.Endpoint = ep
	t.Cleanup(func() {
		ep.Close()
		ep.Wait()
	})
	ep.Attach(nobody{})
	return l
}

// receive lets a packet arrive.
func (l *link) receive(packet []byte) {
	if l.ARPHardwareType() == header.ARPHardwareEther {
		eth := make([]byte, header.EthernetMinimumSize)
		header.Ethernet(eth).Encode(&header.EthernetFields{SrcAddr: theirs, DstAddr: ours, Type: header.IPv4ProtocolNumber})
		packet = append(eth, packet...)
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(packet)})
	l.channel.InjectInbound(header.IPv4ProtocolNumber, pkt)
	pkt.DecRef()
}

// send sends packets.
func (l *link) send(packets ...[]byte) (int, tcpip.Error) {
	var list stack.PacketBufferList
	for _, p := range packets {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
			ReserveHeaderBytes: int(l.MaxHeaderLength()) + header.IPv4MinimumSize,
			Payload:            buffer.MakeWithData(p[header.IPv4MinimumSize:]),
		})
		copy(pkt.NetworkHeader().Push(header.IPv4MinimumSize), p)
		pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
		pkt.EgressRoute.LocalLinkAddress = ours
		pkt.EgressRoute.RemoteLinkAddress = theirs
		l.AddHeader(pkt)
		list.PushBack(pkt)
	}
	n, err := l.WritePackets(list)
	list.DecRef()
	return n, err
}

// packet makes a TCP segment with n bytes of payload.
func packet(src, dst byte, n int) []byte {
	b := make([]byte, header.IPv4MinimumSize+header.TCPMinimumSize+n)
	s, d := tcpip.AddrFrom4([4]byte{192, 0, 2, src}), tcpip.AddrFrom4([4]byte{192, 0, 2, dst})
	ip := header.IPv4(b)
	ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(b)), TTL: 64, Protocol: 6, SrcAddr: s, DstAddr: d})
	ip.SetChecksum(^ip.CalculateChecksum())
	tcp := header.TCP(b[header.IPv4MinimumSize:])
	tcp.Encode(&header.TCPFields{SrcPort: 1000, DstPort: 2000, SeqNum: 7, DataOffset: 20, Flags: header.TCPFlagAck, WindowSize: 512})
	for i := range n {
		b[len(b)-n+i] = byte(i)
	}
	xsum := header.PseudoHeaderChecksum(6, s, d, uint16(len(tcp)))
	tcp.SetChecksum(^tcp.CalculateChecksum(checksum.Checksum(tcp[20:], xsum)))
	return b
}

// got is a packet as read back from a file.
type got struct {
	At       time.Duration
	Inbound  bool
	Length   int
	Captured int
	Dropped  uint64
}

// read reads a file back.
func read(t *testing.T, b []byte) (packets []got, data [][]byte, r *pcapgo.NgReader) {
	t.Helper()
	r, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatal(err)
	}
	for {
		d, ci, opts, err := r.ReadPacketDataWithOptions()
		if errors.Is(err, io.EOF) {
			return packets, data, r
		}
		if err != nil {
			t.Fatal(err)
		}
		g := got{At: time.Duration(ci.Timestamp.UnixNano()), Length: ci.Length, Captured: len(d)}
		g.Inbound = opts.Flags.Direction == pcapgo.NgEpbFlagDirectionInbound
		if opts.DropCount != nil {
			g.Dropped = *opts.DropCount
		}
		packets, data = append(packets, g), append(data, d)
	}
}

// Both directions are recorded in order, with the clock's times to the
// nanosecond, whole or cut to the snap length.
func TestFile(t *testing.T) {
	for _, tt := range []struct {
		name  string
		ether bool
		snap  uint32
		want  []got
		link  layers.LinkType
	}{
		{"Ethernet", true, 0, []got{{1, true, 154, 154, 0}, {1000000003, false, 64, 64, 0}, {1000000003, false, 65054, 65054, 0}}, layers.LinkTypeEthernet},
		{"raw IP", false, 0, []got{{1, true, 140, 140, 0}, {1000000003, false, 50, 50, 0}, {1000000003, false, 65040, 65040, 0}}, layers.LinkTypeRaw},
		{"snap length", true, 100, []got{{1, true, 154, 100, 0}, {1000000003, false, 64, 64, 0}, {1000000003, false, 65054, 100, 0}}, layers.LinkTypeEthernet},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var file bytes.Buffer
			l := newLink(t, &file, tt.ether, Options{Name: "test0", SnapLength: tt.snap})
			l.clock.Advance(1)
			l.receive(packet(2, 1, 100))
			l.clock.Advance(time.Second + 2)
			if n, err := l.send(packet(1, 2, 10), packet(1, 2, 65000)); n != 2 || err != nil {
				t.Fatalf("WritePackets = %d, %v", n, err)
			}
			l.Close()
			l.Wait()
			packets, data, r := read(t, file.Bytes())
			if diff := cmp.Diff(tt.want, packets); diff != "" {
				t.Errorf("packets (-want +got)\n%s", diff)
			}
			if !bytes.HasSuffix(packet(2, 1, 100), data[0][max(0, len(data[0])-40):]) && tt.snap == 0 {
				t.Errorf("the packet received was recorded as % x", data[0])
			}
			intf, err := r.Interface(0)
			if err != nil {
				t.Fatal(err)
			}
			if intf.Name != "test0" || intf.LinkType != tt.link {
				t.Errorf("interface %q of link type %v, want test0 of %v", intf.Name, intf.LinkType, tt.link)
			}
			if st := intf.Statistics; st.PacketsReceived != 3 || st.PacketsDropped != 0 {
				t.Errorf("statistics %+v, want 3 received and none dropped", st)
			}
			want := Stats{Inbound: 1, Outbound: 2}
			if tt.snap != 0 {
				want.Truncated = 2
			}
			if diff := cmp.Diff(want, l.Stats()); diff != "" {
				t.Errorf("Stats (-want +got)\n%s", diff)
			}
		})
	}
}

// The same traffic at the same virtual times gives the same bytes.
func TestDeterministic(t *testing.T) {
	record := func() []byte {
		var file bytes.Buffer
		l := newLink(t, &file, true, Options{Lossless: true})
		for i := range 200 {
			l.clock.Advance(time.Duration(i))
			l.receive(packet(2, 1, i))
			l.send(packet(1, 2, 2*i))
			l.channel.Drain()
		}
		l.Close()
		l.Wait()
		return file.Bytes()
	}
	if a, b := record(), record(); !bytes.Equal(a, b) {
		t.Error("two captures of the same traffic differ")
	}
}

// gate is a writer that lets nothing pass until it is opened.
type gate struct {
	bytes.Buffer
	entered chan struct{} // closed at the first write that waits
	open    chan struct{}
	once    sync.Once
}

func (g *gate) Write(b []byte) (int, error) {
	if g.Len() > 0 { // the file header passes
		g.once.Do(func() { close(g.entered) })
		<-g.open
	}
	return g.Buffer.Write(b)
}

// A writer that does not keep up costs packets, which are counted, but does
// not hold the link up.
func TestDrops(t *testing.T) {
	g := &gate{entered: make(chan struct{}), open: make(chan struct{})}
	l := newLink(t, g, true, Options{QueueBytes: 1000})
	l.receive(packet(2, 1, 5000)) // more than the limit, into an empty queue
	<-g.entered
	for range 20 {
		l.receive(packet(2, 1, 46)) // 100 bytes
	}
	close(g.open)
	if err := l.Flush(); err != nil {
		t.Fatal(err)
	}
	l.receive(packet(2, 1, 46))
	l.Close()
	l.Wait()
	if want := (Stats{Inbound: 12, Dropped: 10}); l.Stats() != want {
		t.Errorf("Stats = %+v, want %+v", l.Stats(), want)
	}
	packets, _, r := read(t, g.Bytes())
	if len(packets) != 12 || packets[11].Dropped != 10 {
		t.Errorf("%d packets in the file, the last with %d dropped before it; want 12 and 10", len(packets), packets[len(packets)-1].Dropped)
	}
	intf, _ := r.Interface(0)
	if st := intf.Statistics; st.PacketsReceived != 22 || st.PacketsDropped != 10 {
		t.Errorf("statistics %+v, want 22 received and 10 dropped", st)
	}
}

// A lossless capture makes the link wait instead.
func TestLossless(t *testing.T) {
	g := &gate{entered: make(chan struct{}), open: make(chan struct{})}
	l := newLink(t, g, true, Options{QueueBytes: 1000, Lossless: true})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				l.receive(packet(2, 1, 46))
			}
		})
	}
	<-g.entered
	close(g.open)
	wg.Wait()
	l.Close()
	l.Wait()
	if want := (Stats{Inbound: 100}); l.Stats() != want {
		t.Errorf("Stats = %+v, want %+v", l.Stats(), want)
	}
	if packets, _, _ := read(t, g.Bytes()); len(packets) != 100 {
		t.Errorf("%d packets in the file, want 100", len(packets))
	}
}

// A packet that the link refused is in the file, since nobody could know, and
// counted.
func TestRefused(t *testing.T) {
	l := newLink(t, io.Discard, true, Options{})
	n, _ := l.send(packet(1, 2, 1), packet(1, 2, 2), packet(1, 2, 3), packet(1, 2, 4), packet(1, 2, 5), packet(1, 2, 6))
	if n != 4 {
		t.Fatalf("the link took %d packets, want 4", n)
	}
	if want := (Stats{Outbound: 6, Refused: 2}); l.Stats() != want {
		t.Errorf("Stats = %+v, want %+v", l.Stats(), want)
	}
}

// full is a disk that is full after the header.
type full struct{ n int }

func (f *full) Write(b []byte) (int, error) {
	if f.n++; f.n > 1 {
		return 0, os.ErrDeadlineExceeded
	}
	return len(b), nil
}

// An error of the writer is reported, once, and does not disturb the link.
func TestWriteError(t *testing.T) {
	l := newLink(t, &full{}, true, Options{})
	for range 3 {
		l.receive(packet(2, 1, 100))
		if err := l.Flush(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("Flush = %v, want the error of the writer", err)
		}
	}
	if n, err := l.send(packet(1, 2, 100)); n != 1 || err != nil {
		t.Errorf("WritePackets = %d, %v", n, err)
	}
	if _, err := New(channel.New(1, 1500, ""), &full{n: 1}, Options{}); err == nil {
		t.Error("New does not report that the header cannot be written")
	}
}

// Close, Wait and Flush may be called in any order and again.
func TestLifecycle(t *testing.T) {
	l := newLink(t, io.Discard, false, Options{})
	l.Wait() // nothing to wait for yet
	for range 2 {
		l.Close()
		l.Wait()
		if err := l.Flush(); err != nil {
			t.Error(err)
		}
	}
	l.receive(packet(2, 1, 1))
	if got := l.Stats().Dropped; got != 1 {
		t.Errorf("%d packets counted as dropped after Close, want 1", got)
	}
}

// writeTrace writes the file for the programs below.
func writeTrace(t *testing.T, ether bool) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "trace.pcapng")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := newLink(t, f, ether, Options{Name: "test0"})
	l.clock.Advance(1234567890*time.Second + 123456789)
	l.receive(packet(2, 1, 100))
	l.send(packet(1, 2, 20000))
	l.Close()
	l.Wait()
	if err := l.Err(); err != nil {
		t.Fatal(err)
	}
	return path
}

func ExampleNew() {
	var file bytes.Buffer
	link, err := New(channel.New(16, 1500, ""), &file, Options{Name: "ch0"})
	if err != nil {
		fmt.Println(err)
		return
	}
	s := stack.New(stack.Options{})
	s.CreateNIC(1, link)
	// ... traffic ...
	s.RemoveNIC(1)
	link.Wait()
	fmt.Println(strings.Contains(file.String(), "ch0"), link.Err())
	// Output: true <nil>
}
