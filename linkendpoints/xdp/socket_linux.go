//go:build amd64 || arm64

package xdp

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bindPatience is for how long a queue may be busy before New gives up. The
// kernel lets go of the queue of a closed socket some time later.
const (
	bindPatience = 2 * time.Second
	bindInterval = 5 * time.Millisecond
)

// socket is an AF_XDP socket that is bound to a queue, with its rings.
type socket struct {
	fd               int
	queue            int
	fill, completion *addrRing
	rx, tx           *descRing
}

// sockets are the sockets of a device and the memory that they share with the
// kernel: for each, frames chunks to receive into, followed by as many to send
// from.
type sockets struct {
	all        []*socket
	others     []int // descriptors that only have to stay open
	mem        []byte
	frames     int
	mode       Mode // never Auto
	sg         bool // frames may take several descriptors
	needWakeup bool
}

// rxFirst returns the address of the first chunk that socket i receives into.
func (s *sockets) rxFirst(i int) uint64 { return uint64(2*i) * uint64(s.frames) * frameSize }

// txFirst returns the address of the first chunk that socket i sends from.
func (s *sockets) txFirst(i int) uint64 { return uint64(2*i+1) * uint64(s.frames) * frameSize }

// openSockets makes sockets with rings and memory of the descriptors of d and
// binds them. On success they belong to the result.
func openSockets(d *device, o *Options) (*sockets, error) {
	s := &sockets{}
	for i, fd := range d.fds {
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		isXDP := err == nil && domain == unix.AF_XDP
		if isXDP != (i < len(d.Queues)) {
			return nil, fmt.Errorf("xdp: descriptor %d: want %d AF_XDP sockets first, and then others", fd, len(d.Queues))
		}
		if isXDP {
			s.all = append(s.all, &socket{fd: fd, queue: d.Queues[i]})
		} else {
			s.others = append(s.others, fd)
		}
	}
	if len(s.all) != len(d.Queues) {
		return nil, fmt.Errorf("xdp: %d descriptors for %d queues", len(d.fds), len(d.Queues))
	}
	if err := s.setUp(&d.Device, o); err != nil {
		s.unmap()
		return nil, err
	}
	return s, nil
}

// setUp makes memory and rings and binds.
func (s *sockets) setUp(d *Device, o *Options) error {
	if err := s.register(o.Frames); err != nil {
		return err
	}
	for i, k := range s.all {
		if err := k.makeRings(uint32(s.frames)); err != nil {
			return err
		}
		// Before it is bound: the kernel drops what it has no chunk for.
		k.fillAll(s.rxFirst(i))
	}
	if err := s.bindAll(d, o); err != nil {
		return err
	}
	for _, k := range s.all {
		// How many packets one system call may send in copy mode: 32 unless
		// said otherwise (Linux 6.17).
		_ = unix.SetsockoptInt(k.fd, unix.SOL_XDP, unix.XDP_MAX_TX_SKB_BUDGET, s.frames)
	}
	return nil
}

// register allocates the memory and makes it known to the kernel, which keeps
// it from being paged out. frames is Options.Frames.
func (s *sockets) register(frames int) error {
	s.frames = frames
	if frames == 0 {
		s.frames = defaultFrames
	}
	for {
		size := len(s.all) * 2 * s.frames * frameSize
		mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return fmt.Errorf("xdp: %d bytes of frames: %w", size, os.NewSyscallError("mmap", err))
		}
		reg := unix.XDPUmemReg{Addr: uint64(uintptr(unsafe.Pointer(&mem[0]))), Len: uint64(size), Size: frameSize}
		errno := setsockopt(s.all[0].fd, unix.XDP_UMEM_REG, unsafe.Pointer(&reg), umemRegSize)
		if errno == 0 {
			s.mem = mem
			return nil
		}
		_ = unix.Munmap(mem)
		if errno == unix.ENOBUFS && frames == 0 && s.frames > minFrames {
			s.frames /= 2
			continue
		}
		if errno == unix.ENOBUFS {
			return fmt.Errorf("xdp: %d bytes of frames: %w (more than RLIMIT_MEMLOCK allows, and no CAP_IPC_LOCK)", size, errno)
		}
		return fmt.Errorf("xdp: registering %d bytes of frames: %w", size, errno)
	}
}

// umemRegSize is the size of struct xdp_umem_reg up to its flags, which every
// kernel knows.
const umemRegSize = unsafe.Offsetof(unix.XDPUmemReg{}.Tx_metadata_len)

// setsockopt sets an option of level SOL_XDP.
func setsockopt(fd, option int, value unsafe.Pointer, size uintptr) unix.Errno {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option), uintptr(value), size, 0)
	runtime.KeepAlive(value)
	return errno
}

// getsockopt reads an option of level SOL_XDP into value, and returns how much
// of it the kernel filled in.
func getsockopt(fd, option int, value unsafe.Pointer, size uintptr) (uintptr, unix.Errno) {
	length := uint32(size)
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_XDP, uintptr(option), uintptr(value),
		uintptr(unsafe.Pointer(&length)), 0)
	runtime.KeepAlive(value)
	return uintptr(length), errno
}

// makeRings makes the four rings of k, with n entries each.
func (k *socket) makeRings(n uint32) error {
	for _, option := range []int{unix.XDP_UMEM_FILL_RING, unix.XDP_UMEM_COMPLETION_RING, unix.XDP_RX_RING, unix.XDP_TX_RING} {
		if err := unix.SetsockoptInt(k.fd, unix.SOL_XDP, option, int(n)); err != nil {
			return fmt.Errorf("xdp: ring of %d entries: %w", n, os.NewSyscallError("setsockopt", err))
		}
	}
	var off unix.XDPMmapOffsets
	size, errno := getsockopt(k.fd, unix.XDP_MMAP_OFFSETS, unsafe.Pointer(&off), unsafe.Sizeof(off))
	if errno != 0 {
		return fmt.Errorf("xdp: %w", os.NewSyscallError("getsockopt", errno))
	}
	if size != unsafe.Sizeof(off) {
		return errors.New("xdp: rings without flags (needs Linux 5.4)")
	}
	descs := func(at int64, off unix.XDPRingOffset) (*descRing, error) {
		mem, err := k.mapRing(at, off.Desc+uint64(n)*uint64(unsafe.Sizeof(unix.XDPDesc{})))
		if err != nil {
			return nil, err
		}
		return newDescRing(mem, off, n)
	}
	addrs := func(at int64, off unix.XDPRingOffset) (*addrRing, error) {
		mem, err := k.mapRing(at, off.Desc+uint64(n)*8)
		if err != nil {
			return nil, err
		}
		return newAddrRing(mem, off, n)
	}
	var errs [4]error
	k.rx, errs[0] = descs(unix.XDP_PGOFF_RX_RING, off.Rx)
	k.tx, errs[1] = descs(unix.XDP_PGOFF_TX_RING, off.Tx)
	k.fill, errs[2] = addrs(unix.XDP_UMEM_PGOFF_FILL_RING, off.Fr)
	k.completion, errs[3] = addrs(unix.XDP_UMEM_PGOFF_COMPLETION_RING, off.Cr)
	return errors.Join(errs[:]...)
}

// fillAll gives as many chunks as the fill ring has entries, from the one at
// first on, to the kernel.
func (k *socket) fillAll(first uint64) {
	for i := range k.fill.size {
		*k.fill.at(i) = first + uint64(i)*frameSize
	}
	k.fill.publish(k.fill.size)
}

// mapRing maps one ring.
func (k *socket) mapRing(at int64, size uint64) ([]byte, error) {
	mem, err := unix.Mmap(k.fd, at, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_POPULATE)
	if err != nil {
		return nil, fmt.Errorf("xdp: ring: %w", os.NewSyscallError("mmap", err))
	}
	return mem, nil
}

// unmapRings removes the mappings of the rings.
func (k *socket) unmapRings() {
	if k.rx != nil {
		k.rx.unmap()
	}
	if k.tx != nil {
		k.tx.unmap()
	}
	if k.fill != nil {
		k.fill.unmap()
	}
	if k.completion != nil {
		k.completion.unmap()
	}
}

// unmap removes all mappings.
func (s *sockets) unmap() {
	for _, k := range s.all {
		k.unmapRings()
	}
	if s.mem != nil {
		_ = unix.Munmap(s.mem)
		s.mem = nil
	}
}

// close closes all descriptors and removes the mappings. Nobody may use them
// any more.
func (s *sockets) close() {
	// The program first: it is detached when close returns, so that the kernel
	// has the device's traffic again.
	for _, fd := range s.others {
		unix.Close(fd)
	}
	for _, k := range s.all {
		unix.Close(k.fd)
	}
	s.unmap()
}

// attempt is a way to bind.
type attempt struct {
	mode  Mode
	flags uint16
	sg    bool
}

// attempts lists the ways to bind to d that o allows, the best first.
func attempts(d *Device, o *Options) []attempt {
	single := !needsFragments(d, o)
	var list []attempt
	add := func(mode Mode, flag uint16) {
		if o.Mode != Auto && o.Mode != mode {
			return
		}
		withSG := attempt{mode, flag | unix.XDP_USE_SG, true}
		without := attempt{mode, flag, false}
		if d.Fragments {
			list = append(list, withSG)
		}
		if single {
			list = append(list, without)
		}
	}
	if d.Generic {
		add(Generic, unix.XDP_COPY)
		return list
	}
	add(ZeroCopy, unix.XDP_ZEROCOPY)
	add(Copy, unix.XDP_COPY)
	return list
}

// needsFragments says whether frames may be too long for one chunk.
func needsFragments(d *Device, o *Options) bool {
	mtu := o.MTU
	if mtu == 0 {
		mtu = d.MTU
	}
	return mtu > maxSingleMTU
}

// bindAll binds the sockets to their queues.
func (s *sockets) bindAll(d *Device, o *Options) error {
	list := attempts(d, o)
	if len(list) == 0 {
		if needsFragments(d, o) {
			return fragmentsError(d, nil)
		}
		return fmt.Errorf("xdp: %s is prepared for %s mode, not for %s", d.Name, preparedMode(d), o.Mode)
	}
	var err error
	for _, a := range list {
		if err = s.bindFirst(d, a); err == nil {
			s.mode, s.sg = a.mode, a.sg
			break
		}
		if !isUnsupported(err) {
			return fmt.Errorf("xdp: queue %d of %s: %w", s.all[0].queue, d.Name, explainBind(err))
		}
	}
	switch {
	case err != nil && needsFragments(d, o):
		return fragmentsError(d, err)
	case err != nil:
		return fmt.Errorf("xdp: queue %d of %s: %w (not possible in %s mode)", s.all[0].queue, d.Name, err, o.Mode)
	}
	for _, k := range s.all[1:] {
		// The flags are those of the socket whose memory is shared.
		if err := bind(k.fd, d, k.queue, unix.XDP_SHARED_UMEM, s.all[0].fd); err != nil {
			return fmt.Errorf("xdp: queue %d of %s: %w", k.queue, d.Name, explainBind(err))
		}
	}
	return nil
}

// preparedMode says in which modes the program of d can work.
func preparedMode(d *Device) string {
	if d.Generic {
		return "generic"
	}
	return "zero-copy or copy"
}

// fragmentsError says that the device's MTU is too large.
func fragmentsError(d *Device, err error) error {
	const text = "xdp: %s: frames of MTU %d take several buffers, which its driver or the kernel cannot do (Linux 6.6 has it); the largest MTU that needs one is %d"
	if err == nil {
		return fmt.Errorf(text, d.Name, d.MTU, maxSingleMTU)
	}
	return fmt.Errorf(text+": %w", d.Name, d.MTU, maxSingleMTU, err)
}

// explainBind adds to err what users can do about it.
func explainBind(err error) error {
	switch {
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w (another socket has it)", err)
	case errors.Is(err, unix.ENODEV):
		return fmt.Errorf("%w (the device is not in the socket's network namespace)", err)
	case errors.Is(err, unix.ENETDOWN):
		return fmt.Errorf("%w (the device has to be up)", err)
	}
	return err
}

// bindFirst binds the socket that the memory is registered with.
func (s *sockets) bindFirst(d *Device, a attempt) error {
	k := s.all[0]
	err := bind(k.fd, d, k.queue, a.flags|unix.XDP_USE_NEED_WAKEUP, 0)
	s.needWakeup = err == nil
	return err
}

// bind binds fd to a queue of d and waits for a while if that is busy.
func bind(fd int, d *Device, queue int, flags uint16, shared int) error {
	addr := &unix.SockaddrXDP{Flags: flags, Ifindex: uint32(d.Index), QueueID: uint32(queue), SharedUmemFD: uint32(shared)}
	deadline := time.Now().Add(bindPatience)
	for {
		err := unix.Bind(fd, addr)
		if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(bindInterval)
	}
}
