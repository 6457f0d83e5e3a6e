package frame

import (
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// WriteQueues hands packets to n transmit queues, so that the order within a
// flow is kept: neighbours of one queue go together, in one call of write. It
// returns how many packets it is done with, from the first on, and the error
// that stopped it.
//
// write does the same for the packets of one queue. Of a packet that can never
// be sent (*tcpip.ErrMessageTooLong, *tcpip.ErrMalformedHeader) it tells only if
// it is the last that write was given. That one stops nothing here unless it is
// the last of all.
func WriteQueues(pkts []*stack.PacketBuffer, n int, write func(queue int, pkts []*stack.PacketBuffer) (int, tcpip.Error)) (int, tcpip.Error) {
	if n == 1 {
		return write(0, pkts)
	}
	end := 0
	for start := 0; start < len(pkts); start = end {
		queue := Queue(pkts[start], n)
		for end = start + 1; end < len(pkts) && Queue(pkts[end], n) == queue; {
			end++
		}
		done, err := write(queue, pkts[start:end])
		switch err.(type) {
		case nil:
			continue
		case *tcpip.ErrMessageTooLong, *tcpip.ErrMalformedHeader:
			if end < len(pkts) {
				continue
			}
		}
		return start + done, err
	}
	return len(pkts), nil
}
