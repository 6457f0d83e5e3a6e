package testbed

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/plumbline/plumbline/tcpx"
)

// flow is one connection with the applications at both ends.
type flow struct {
	world *world
	spec  *Flow
	index int
	pair  *pair
	port  uint16

	sender, receiver *socket
	shut             bool // the sender has sent all
	written          int64
	received         int64
	// finished is when the receiver had everything, 0 if it has not.
	finished time.Duration
	// err is why the connection failed.
	err error
	// ticking tells that a timer will give an application with a rate more to send.
	ticking bool
	payload bytes.Reader
}

// writeSize is how much the application writes at a time, in bytes.
const writeSize = 64 << 10

// zeros is what it writes.
var zeros [writeSize]byte

func newFlow(w *world, index int, spec *Flow) *flow {
	return &flow{world: w, index: index, spec: spec}
}

// connect starts the connection.
func (f *flow) connect() {
	w := f.world
	var err error
	f.sender, err = w.open(f.pair.left, 2*f.index, waiter.WritableEvents|waiter.EventHUp|waiter.EventErr, f.send)
	if err != nil {
		f.fail(err)
		return
	}
	cc := tcpip.CongestionControlOption(f.spec.Algorithm)
	if err := f.sender.ep.SetSockOpt(&cc); err != nil {
		f.fail(fmt.Errorf("set congestion control %q: %v", cc, err))
		return
	}
	if f.spec.writes != nil {
		f.sender.ep.SocketOptions().SetDelayOption(false)
	}
	if e, ok := f.sender.ep.(*tcpx.Endpoint); ok {
		// The buffer limits nothing, but most of what it could hold would only wait there, and take memory in each of many flows.
		if err := e.SetTCPOptionInt(tcpx.OptNotSentLowat, 2*writeSize); err != nil {
			f.fail(fmt.Errorf("set TCP_NOTSENT_LOWAT: %v", err))
			return
		}
	}
	if err := f.sender.ep.Bind(tcpip.FullAddress{Port: f.port}); err != nil {
		f.fail(fmt.Errorf("bind: %v", err))
		return
	}
	refused := f.sender.ep.Connect(tcpip.FullAddress{NIC: nicID, Addr: address(1, f.pair.index), Port: serverPort})
	if _, started := refused.(*tcpip.ErrConnectStarted); !started && refused != nil {
		f.fail(fmt.Errorf("connect: %v", refused))
	}
}

func (f *flow) fail(err error) {
	if f.err == nil {
		f.err = fmt.Errorf("flow %d: %w", f.index, err)
	}
}

// send writes as much as the application has and the endpoint takes.
func (f *flow) send() {
	for !f.shut {
		n := f.available()
		if n == 0 {
			f.waitForData()
			return
		}
		f.payload.Reset(zeros[:n])
		done, err := f.sender.ep.Write(&f.payload, tcpip.WriteOptions{})
		f.written += done
		if err != nil {
			if _, full := err.(*tcpip.ErrWouldBlock); !full {
				f.fail(fmt.Errorf("write: %v", err))
				f.shut = true
			}
			return
		}
		if f.spec.Bytes > 0 && f.written == f.spec.Bytes {
			f.shut = true
			if err := f.sender.ep.Shutdown(tcpip.ShutdownWrite); err != nil {
				f.fail(fmt.Errorf("shutdown: %v", err))
			}
		}
	}
}

// available returns how much the application has to write now.
func (f *flow) available() int64 {
	n := int64(writeSize)
	if f.spec.Bytes > 0 {
		n = min(n, f.spec.Bytes-f.written)
	}
	if f.spec.writes != nil {
		n = min(n, f.due()-f.written)
	}
	if f.spec.Rate > 0 {
		n = min(n, int64(f.spec.Rate.Bytes(f.world.clock.Elapsed()-f.spec.Start))-f.written)
	}
	return max(n, 0)
}

// due returns how much the application should have written by now, and comes back for the rest.
func (f *flow) due() int64 {
	now, total := f.world.clock.Elapsed()-f.spec.Start, int64(0)
	for _, w := range f.spec.writes {
		if w.at > now {
			if !f.ticking {
				f.ticking = true
				f.world.clock.AfterFunc(w.at-now, f.tick)
			}
			break
		}
		total += w.bytes
	}
	return total
}

// tick lets the application act.
func (f *flow) tick() {
	f.ticking = false
	f.sender.wake()
}

// waitForData comes back when an application with a rate has a segment more.
func (f *flow) waitForData() {
	if f.ticking || f.spec.Rate == 0 {
		return
	}
	f.ticking = true
	wait := time.Duration(SegmentPayload * 8 * float64(time.Second) / float64(f.spec.Rate))
	f.world.clock.AfterFunc(max(wait, time.Microsecond), f.tick)
}

// receive reads everything that has arrived.
func (f *flow) receive() {
	for {
		r, err := f.receiver.ep.Read(discard{}, tcpip.ReadOptions{})
		f.received += int64(r.Count)
		if f.spec.Bytes > 0 && f.received >= f.spec.Bytes && f.finished == 0 {
			f.finished = f.world.clock.Elapsed()
		}
		switch err.(type) {
		case nil:
			if f.receiver.ep.Readiness(waiter.ReadableEvents) != 0 {
				continue
			}
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForReceive:
			f.receiver.close()
			f.sender.close()
		default:
			f.fail(fmt.Errorf("read: %v", err))
		}
		return
	}
}

// discard takes everything. Unlike io.Discard it is no io.ReaderFrom, which endpoints might copy for.
type discard struct{}

// Write implements io.Writer.
func (discard) Write(b []byte) (int, error) { return len(b), nil }

func (f *flow) close() {
	f.sender.close()
	f.receiver.close()
}

// observe asks the sender's endpoint.
func (f *flow) observe() view {
	v := view{received: f.received, finished: f.finished}
	if f.sender == nil || f.sender.ep == nil {
		return v
	}
	if st, ok := f.sender.ep.Stats().(*tcp.Stats); ok {
		v.retransmits = st.SendErrors.Retransmits.Value()
		v.timeouts = st.SendErrors.Timeouts.Value()
	}
	if e, ok := f.sender.ep.(*tcpx.Endpoint); ok {
		i := e.TCPInfo()
		v.cwnd, v.srtt, v.pacing = i.SndCwndBytes, i.RTT, i.PacingRate
		segments := int64(i.Unacked) - int64(i.Sacked) - int64(i.Lost) + int64(i.Retrans)
		v.inFlight = uint64(max(segments, 0)) * uint64(i.SndMSS)
		v.ssthresh = limited(i.SndSsthresh)
		v.algorithm = i.Congestion
		return v
	}
	var o tcpip.TCPInfoOption
	if err := f.sender.ep.GetSockOpt(&o); err == nil {
		v.cwnd, v.srtt, v.ssthresh = uint64(o.SndCwnd)*SegmentPayload, o.RTT, limited(o.SndSsthresh)
	}
	return v
}

// limited returns a slow start threshold in segments, 0 if it is one of those that stand for none.
func limited(ssthresh uint32) uint32 {
	if ssthresh >= math.MaxInt32 {
		return 0
	}
	return ssthresh
}
