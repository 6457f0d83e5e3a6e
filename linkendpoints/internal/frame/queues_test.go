package frame

import (
	"slices"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// What becomes of a list whose packets belong to several queues. The hash of a
// packet is its queue; "bad" is the packet that write refuses.
func TestWriteQueues(t *testing.T) {
	var (
		tooLong   tcpip.Error = &tcpip.ErrMessageTooLong{}
		malformed tcpip.Error = &tcpip.ErrMalformedHeader{}
		full      tcpip.Error = &tcpip.ErrNoBufferSpace{}
		closed    tcpip.Error = &tcpip.ErrClosedForSend{}
	)
	for _, tt := range []struct {
		name   string
		n      int
		queues []uint32 // of the packets, from 1: Hash 0 means none
		bad    int      // -1 for none
		refuse tcpip.Error
		runs   []int // lengths of the lists that write is given
		done   int
		err    tcpip.Error
	}{
		{"one queue", 1, []uint32{1, 2, 1}, -1, nil, []int{3}, 3, nil},
		{"one queue, full", 1, []uint32{1, 2, 1}, 1, full, []int{3}, 1, full},
		{"nothing", 4, nil, -1, nil, nil, 0, nil},
		{"neighbours go together", 4, []uint32{1, 1, 2, 1, 3, 3}, -1, nil, []int{2, 1, 1, 2}, 6, nil},
		{"full ends it", 4, []uint32{1, 1, 2, 1}, 1, full, []int{2}, 1, full},
		{"closed ends it", 4, []uint32{1, 2, 3}, 1, closed, []int{1, 1}, 1, closed},
		{"too long, not the last of its queue", 4, []uint32{1, 1, 2}, 0, tooLong, []int{2, 1}, 3, nil},
		{"too long, the last of its queue", 4, []uint32{1, 1, 2}, 1, tooLong, []int{2, 1}, 3, nil},
		{"malformed, alone in its queue", 4, []uint32{1, 2, 1}, 1, malformed, []int{1, 1, 1}, 3, nil},
		{"too long, the last of all", 4, []uint32{1, 2, 2}, 2, tooLong, []int{1, 2}, 2, tooLong},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var pkts []*stack.PacketBuffer
			for _, h := range tt.queues {
				pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{})
				defer pkt.DecRef()
				pkt.Hash = h
				pkts = append(pkts, pkt)
			}
			var runs []int
			write := func(queue int, list []*stack.PacketBuffer) (int, tcpip.Error) {
				runs = append(runs, len(list))
				for i, pkt := range list {
					if want := Queue(pkt, tt.n); queue != want {
						t.Errorf("a packet of queue %d went to %d", want, queue)
					}
					if tt.bad < 0 || pkt != pkts[tt.bad] {
						continue
					}
					if (tt.refuse == tooLong || tt.refuse == malformed) && i < len(list)-1 {
						continue // passed over
					}
					return i, tt.refuse
				}
				return len(list), nil
			}
			done, err := WriteQueues(pkts, tt.n, write)
			if done != tt.done || err != tt.err {
				t.Errorf("done with %d packets and error %v, want %d and %v", done, err, tt.done, tt.err)
			}
			if !slices.Equal(runs, tt.runs) {
				t.Errorf("lists of %d packets, want %d", runs, tt.runs)
			}
		})
	}
}
