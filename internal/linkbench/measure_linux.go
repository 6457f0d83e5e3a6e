package linkbench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// offeredRate is the rate of rx-loss in frames a second.
const offeredRate = 500_000

// What a connection is for, by the first byte that the netstack sends on it.
const (
	modeSink   = 's'
	modeSource = 'g'
	modeEcho   = 'e'
)

// racer is a contender that is open.
type racer struct {
	contestant
	world *world
	peer  *world // the other namespace of kernelStack
	gate  *gate  // nil for kernelStack
	gen   generator
	dial  func() (net.Conn, error)

	listener net.Listener
	received atomic.Uint64 // bytes that the kernel's end received
}

// ready opens a contender.
func (c contestant) ready() (r *racer, err error) {
	r = &racer{contestant: c}
	defer func() {
		if err != nil {
			r.close()
			r = nil
		}
	}()
	if r.world, err = newWorld(); err != nil {
		return r, err
	}
	if c.kind == kernelStack {
		err = r.openKernel()
	} else {
		err = r.openStack()
	}
	if err != nil {
		return r, err
	}
	return r, r.listen()
}

// openKernel makes the other end of a veth pair another namespace.
func (r *racer) openKernel() error {
	if err := r.world.addVeth(); err != nil {
		return err
	}
	var err error
	if r.peer, err = newWorld(); err != nil {
		return err
	}
	if err := r.world.Move(r.world.ours, r.peer.Namespace); err != nil {
		return fmt.Errorf("moving a device: %w", err)
	}
	if err := r.peer.addOurs(); err != nil {
		return err
	}
	r.dial = func() (conn net.Conn, err error) {
		err = r.peer.Do(func() error {
			d := net.Dialer{Timeout: dialPatience}
			d.SetMultipathTCP(false)
			conn, err = d.Dial("tcp4", r.listener.Addr().String())
			return err
		})
		return conn, err
	}
	return nil
}

// openStack makes the device, the endpoint, its stack and its generator.
func (r *racer) openStack() error {
	if r.kind != tapDevice {
		if err := r.world.addVeth(); err != nil {
			return err
		}
	}
	err := r.world.Do(func() error {
		ep, err := r.contestant.open(r.world)
		if err == nil {
			r.gate = &gate{LinkEndpoint: ep}
		}
		return err
	})
	if err != nil {
		return err
	}
	if r.kind == tapDevice {
		if err := r.world.findTAP(); err != nil {
			return err
		}
	}
	s, err := r.gate.netstack()
	if err != nil {
		return err
	}
	r.dial = func() (net.Conn, error) { return dialStack(s, r.port()) }
	return r.world.Do(r.openGenerator)
}

// openGenerator makes what sends to the endpoint.
func (r *racer) openGenerator() (err error) {
	frame := udpFrame(r.world.far.Attrs().HardwareAddr, net.HardwareAddr(r.gate.LinkAddress()), kernelAddress, stackAddress)
	switch r.kind {
	case packetSocket:
		r.gen, err = newLiveFrames(frame, r.world.ours.Attrs().Index, xdpPass)
	case expressPath:
		r.gen, err = newLiveFrames(frame, r.world.far.Attrs().Index, xdpTX)
	case tapDevice:
		r.gen, err = newSocketFrames(frame, r.world.far.Attrs().Index)
	}
	return err
}

// close lets go of what can be let go of: stock endpoints stay.
func (r *racer) close() {
	if r.listener != nil {
		r.listener.Close()
	}
	if r.gen != nil {
		r.gen.close()
	}
	for _, w := range []*world{r.world, r.peer} {
		if w != nil {
			w.Close()
		}
	}
	if r.gate != nil && r.against != "" {
		r.gate.LinkEndpoint.Attach(nil)
		r.gate.LinkEndpoint.Close()
		r.gate.LinkEndpoint.Wait()
	}
}

func (r *racer) port() int { return r.listener.Addr().(*net.TCPAddr).Port }

// listen serves connections at the kernel's end.
func (r *racer) listen() error {
	return r.world.Do(func() error {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err := lc.Listen(context.Background(), "tcp4", kernelAddress+":0")
		if err != nil {
			return fmt.Errorf("listening: %w", err)
		}
		r.listener = l
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				go r.serve(conn)
			}
		}()
		return nil
	})
}

// serve does what the first byte of a connection asks for.
func (r *racer) serve(conn net.Conn) {
	defer conn.Close()
	var mode [1]byte
	if _, err := io.ReadFull(conn, mode[:]); err != nil {
		return
	}
	b := make([]byte, 256<<10)
	for {
		n := len(b)
		var err error
		if mode[0] != modeSource {
			n, err = conn.Read(b)
			r.received.Add(uint64(n))
		}
		if err == nil && mode[0] != modeSink {
			_, err = conn.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

// rx measures how frames are received.
func (r *racer) rx(during time.Duration, c *Contender) error {
	r.gate.counting.Store(true)
	defer r.gate.counting.Store(false)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	counted, cpu, start := r.gate.counted.Load(), processTime(), time.Now()
	var own time.Duration
	err := r.world.Do(func() (err error) {
		_, own, err = flood(r.gen, 0, during)
		return err
	})
	if err != nil {
		return err
	}
	elapsed := time.Since(start)
	n := float64(r.gate.counted.Load() - counted)
	cpu = processTime() - cpu - own
	runtime.ReadMemStats(&after)
	if n == 0 {
		return errors.New("no frame was received")
	}
	c.add("rx", n/elapsed.Seconds()/1e6)
	c.add("rx-ns", float64(cpu.Nanoseconds())/n)
	c.add("rx-allocs", float64(after.Mallocs-before.Mallocs)/n)
	return nil
}

// loss measures how many frames are lost at offeredRate.
func (r *racer) loss(during time.Duration, c *Contender) error {
	r.gate.counting.Store(true)
	defer r.gate.counting.Store(false)
	counted := r.gate.counted.Load()
	var sent int
	err := r.world.Do(func() (err error) {
		sent, _, err = flood(r.gen, offeredRate, during)
		return err
	})
	if err != nil {
		return err
	}
	// What is in queues may still come.
	received := settle(func() uint64 { return r.gate.counted.Load() }) - counted
	c.add("rx-loss", max(0, 100*(1-float64(received)/float64(sent))))
	return nil
}

// settle returns the value of a counter that has stopped.
func settle(counter func() uint64) uint64 {
	const quiet = 20 * time.Millisecond
	for v := counter(); ; {
		time.Sleep(quiet)
		next := counter()
		if next == v {
			return v
		}
		v = next
	}
}

// tx measures how frames are sent.
func (r *racer) tx(during time.Duration, c *Contender) error {
	const batch = 32
	var list stack.PacketBufferList
	defer func() { list.DecRef() }()
	frame := udpFrame(net.HardwareAddr(r.gate.LinkAddress()), r.world.far.Attrs().HardwareAddr, stackAddress, kernelAddress)
	for range batch {
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
			ReserveHeaderBytes: header.EthernetMinimumSize,
			Payload:            buffer.MakeWithData(frame[header.EthernetMinimumSize:]),
		})
		pkt.NetworkProtocolNumber = header.IPv4ProtocolNumber
		pkt.EgressRoute.LocalLinkAddress = r.gate.LinkAddress()
		pkt.EgressRoute.RemoteLinkAddress = tcpip.LinkAddress(r.world.far.Attrs().HardwareAddr)
		r.gate.AddHeader(pkt)
		list.PushBack(pkt)
	}
	before, err := r.world.farReceived()
	if err != nil {
		return err
	}
	start := time.Now()
	for time.Since(start) < during {
		// What is not sent shows in what arrives.
		_, _ = r.gate.WritePackets(list)
	}
	elapsed := time.Since(start)
	after, err := r.world.farReceived()
	if err != nil {
		return err
	}
	c.add("tx", float64(after-before)/elapsed.Seconds()/1e6)
	return nil
}

// How long a connection may take to be made, and to move anything.
const dialPatience = 10 * time.Second

// connect connects for a mode.
func (r *racer) connect(mode byte, during time.Duration) (net.Conn, error) {
	conn, err := r.dial()
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	_ = conn.SetDeadline(time.Now().Add(during + dialPatience))
	if _, err := conn.Write([]byte{mode}); err != nil {
		conn.Close()
		return nil, fmt.Errorf("writing: %w", err)
	}
	return conn, nil
}

// warmUp is the share of a transfer that is not counted.
const warmUp = 4

// send measures TCP to the kernel.
func (r *racer) send(during time.Duration, c *Contender) error {
	conn, err := r.connect(modeSink, during)
	if err != nil {
		return err
	}
	defer conn.Close()
	b := make([]byte, 256<<10)
	start := time.Now()
	var from time.Time
	var before uint64
	for time.Since(start) < during {
		if from.IsZero() && time.Since(start) > during/warmUp {
			from, before = time.Now(), r.received.Load()
		}
		if _, err := conn.Write(b); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
	}
	if from.IsZero() {
		return errors.New("too slow to be measured in this time")
	}
	c.add("tcp-send", float64(r.received.Load()-before)*8/time.Since(from).Seconds()/1e9)
	return nil
}

// receive measures TCP from the kernel.
func (r *racer) receive(during time.Duration, c *Contender) error {
	conn, err := r.connect(modeSource, during)
	if err != nil {
		return err
	}
	defer conn.Close()
	b := make([]byte, 256<<10)
	start := time.Now()
	var from time.Time
	n := 0
	for time.Since(start) < during {
		m, err := conn.Read(b)
		if err != nil {
			return fmt.Errorf("reading: %w", err)
		}
		if n += m; from.IsZero() && time.Since(start) > during/warmUp {
			from, n = time.Now(), 0
		}
	}
	if from.IsZero() {
		return errors.New("too slow to be measured in this time")
	}
	c.add("tcp-receive", float64(n)*8/time.Since(from).Seconds()/1e9)
	return nil
}

// rtt measures round trips.
func (r *racer) rtt(during time.Duration, c *Contender) error {
	conn, err := r.connect(modeEcho, during)
	if err != nil {
		return err
	}
	defer conn.Close()
	var b [1]byte
	n, start := 0, time.Now()
	for ; time.Since(start) < during || n == 0; n++ {
		if _, err := conn.Write(b[:]); err != nil {
			return fmt.Errorf("writing: %w", err)
		}
		if _, err := io.ReadFull(conn, b[:]); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
	}
	c.add("rtt", float64(time.Since(start).Microseconds())/float64(n))
	return nil
}
