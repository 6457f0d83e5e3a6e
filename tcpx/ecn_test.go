package tcpx

import (
	"bytes"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// markCE marks a packet as a congested router does (RFC 3168 §5).
func markCE(pkt *stack.PacketBuffer) {
	h := pkt.NetworkHeader().Slice()
	if pkt.NetworkProtocolNumber == header.IPv6ProtocolNumber {
		ip := header.IPv6(h)
		tos, label := ip.TOS()
		ip.SetTOS(tos|3, label)
		return
	}
	ip := header.IPv4(h)
	tos, _ := ip.TOS()
	ip.SetTOS(tos|3, 0)
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
}

// A path that marks costs no packet: the window follows the marks, in every mode that asks for ECN.
func TestMarksAreHeeded(t *testing.T) {
	for _, tc := range []struct {
		mode                  ECNMode
		inUse, accurate, cwrs bool
	}{
		{mode: ECNOff},
		{mode: ECNPassive},
		{mode: ECNOn, inUse: true, cwrs: true},
		{mode: ECNAccurate, inUse: true, accurate: true},
	} {
		t.Run(tc.mode.String(), func(t *testing.T) {
			w := newWorld(t, WithECN(tc.mode))
			c, s := w.connect()
			marked, cwrs := uint64(0), 0
			w.a.wire.mark = func(p *packet) bool {
				if p.payload == 0 {
					t.Errorf("a segment without text is ECN-capable: %v", p.flags())
				}
				if !tc.accurate && p.flags().Has(tcb.CWR) {
					cwrs++
				}
				n := len(w.a.wire.log)
				if n%50 != 0 {
					return false
				}
				marked++
				return true
			}
			const size = 1 << 20
			data := bytes.Repeat([]byte("marked?"), size/7)
			var got []byte
			for rest := bytes.NewReader(data); len(got) < len(data); w.run(10 * time.Millisecond) {
				if rest.Len() > 0 {
					if _, err := c.Write(rest, tcpip.WriteOptions{}); err != nil {
						c.want(err, &tcpip.ErrWouldBlock{})
					}
				}
				var b bytes.Buffer
				for {
					if _, err := s.Read(&b, tcpip.ReadOptions{}); err != nil {
						s.want(err, &tcpip.ErrWouldBlock{})
						break
					}
				}
				got = append(got, b.Bytes()...)
			}
			if !bytes.Equal(got, data) {
				t.Fatal("the text was altered")
			}
			st, peer := StatsOf(w.a.stack), StatsOf(w.b.stack)
			if n := w.a.stack.Stats().TCP.Retransmits.Value(); n != 0 {
				t.Errorf("%d segments were sent again", n)
			}
			if got := peer.CEReceived.Value(); got != marked || (marked != 0) != tc.inUse {
				t.Errorf("%d marks were counted of %d", got, marked)
			}
			if got := st.ECNReductions.Value() > 0; got != tc.inUse {
				t.Errorf("the window was reduced: %v, want %v", got, tc.inUse)
			}
			if got := cwrs > 0; got != tc.cwrs {
				t.Errorf("CWR was sent %d times", cwrs)
			}
			i := c.TCPInfo()
			if i.OptECN != tc.inUse || i.OptAccECN != tc.accurate {
				t.Errorf("Info tells of ECN %v, accurate %v", i.OptECN, i.OptAccECN)
			}
			if tc.accurate && uint64(i.DeliveredCE) != marked {
				t.Errorf("the sender knows of %d marks of %d", i.DeliveredCE, marked)
			}
		})
	}
}

// SYN cookies have no room for ECN: their SYN-ACK does not agree to it.
func TestCookieDoesNotAgreeToECN(t *testing.T) {
	w := newWorld(t, WithECN(ECNOn))
	on := tcpip.TCPAlwaysUseSynCookies(true)
	if err := w.b.stack.SetTransportProtocolOption(ProtocolNumber, &on); err != nil {
		t.Fatal(err)
	}
	c, _ := w.connect()
	for _, p := range w.b.wire.log {
		if p.flags().Has(tcb.SYN|tcb.ACK) && p.flags().Has(tcb.ECE) {
			t.Error("the SYN-ACK of a cookie agrees to ECN")
		}
	}
	if c.TCPInfo().OptECN {
		t.Error("ECN is in use")
	}
}
