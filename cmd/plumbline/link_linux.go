package main

import (
	"fmt"
	"io"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/linkendpoints/afpacket"
	"github.com/plumbline/plumbline/linkendpoints/tap"
	"github.com/plumbline/plumbline/linkendpoints/xdp"
)

// device is an opened link.
type device struct {
	stack.LinkEndpoint
	label string            // the device as --link has it
	print func(w io.Writer) // its statistics
}

// openLink opens a device. failed is called at most once, if the device ends
// under the proxy.
func openLink(spec linkSpec, failed func(error)) (*device, error) {
	open := openTAP
	switch spec.kind {
	case "afpacket":
		open = openAFPacket
	case "xdp":
		open = openXDP
	}
	d, err := open(spec, failed)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return d, nil
}

// SupportedGSO implements stack.GSOEndpoint, which the embedded interface hides.
func (d *device) SupportedGSO() stack.SupportedGSO {
	if gso, ok := d.LinkEndpoint.(stack.GSOEndpoint); ok {
		return gso.SupportedGSO()
	}
	return stack.GSONotSupported
}

// GSOMaxSize implements stack.GSOEndpoint.
func (d *device) GSOMaxSize() uint32 {
	if gso, ok := d.LinkEndpoint.(stack.GSOEndpoint); ok {
		return gso.GSOMaxSize()
	}
	return 0
}

// name returns the device as --link has it.
func (d *device) name() string { return d.label }

// report prints the statistics of the device.
func (d *device) report(w io.Writer) { d.print(w) }

// openTAP opens a TAP or TUN device.
func openTAP(spec linkSpec, failed func(error)) (*device, error) {
	opts := tap.Options{
		Name:        spec.name,
		MTU:         spec.mtu,
		Queues:      spec.queues,
		LinkAddress: spec.address,
		NoOffload:   spec.noOffload,
		OnFailure:   failed,
	}
	if spec.kind == "tun" {
		opts.Mode = tap.TUN
	}
	ep, err := tap.New(opts)
	if err != nil {
		return nil, err
	}
	d := &device{LinkEndpoint: ep, label: spec.kind + ":" + ep.Name()}
	d.print = func(w io.Writer) {
		s := ep.Stats()
		fmt.Fprintf(w, "%-12s %d frames in (%d large, %d unchecked), %d dropped, %d errors\n",
			d.label+":", s.RxFrames, s.RxGSO, s.RxPartialChecksum, s.RxDropped(), s.RxErrors)
		fmt.Fprintf(w, "             %d frames out (%d large), %d refused, %d invalid\n", s.TxFrames, s.TxGSO, s.TxRefused(), s.TxDroppedInvalid)
	}
	return d, nil
}

// openAFPacket opens packet sockets on a device.
func openAFPacket(spec linkSpec, failed func(error)) (*device, error) {
	ep, err := afpacket.New(afpacket.Options{
		Name:        spec.name,
		MTU:         spec.mtu,
		Queues:      spec.queues,
		LinkAddress: spec.address,
		NoOffload:   spec.noOffload,
		OnFailure:   failed,
	})
	if err != nil {
		return nil, err
	}
	d := &device{LinkEndpoint: ep, label: "afpacket:" + ep.Name()}
	d.print = func(w io.Writer) {
		s := ep.Stats()
		fmt.Fprintf(w, "%-12s %d frames in (%d large, %d unchecked), %d dropped, %d errors\n",
			d.label+":", s.RxFrames, s.RxGSO, s.RxPartialChecksum, s.RxDropped(), s.RxErrors)
		fmt.Fprintf(w, "             %d frames out (%d large), %d refused, %d invalid\n", s.TxFrames, s.TxGSO, s.TxRefused(), s.TxDroppedInvalid)
	}
	return d, nil
}

// openXDP opens receive queues of a device: the first spec.queues, or all if that
// is 0.
func openXDP(spec linkSpec, failed func(error)) (*device, error) {
	opts := xdp.Options{
		Name:        spec.name,
		MTU:         spec.mtu,
		LinkAddress: spec.address,
		NoOffload:   spec.noOffload,
		OnFailure:   failed,
	}
	for q := range spec.queues {
		opts.Queues = append(opts.Queues, q)
	}
	ep, err := xdp.New(opts)
	if err != nil {
		return nil, err
	}
	d := &device{LinkEndpoint: ep, label: "xdp:" + ep.Name()}
	d.print = func(w io.Writer) {
		s := ep.Stats()
		fmt.Fprintf(w, "%-12s %s mode, %d frames in (%d large, %d unchecked), %d dropped, %d errors\n",
			d.label+":", ep.Mode(), s.RxFrames, s.RxMultiBuffer, s.RxPartialChecksum, s.RxDropped(), s.RxErrors)
		fmt.Fprintf(w, "             %d frames out (%d packets cut) in %d calls, %d refused, %d invalid\n",
			s.TxFrames, s.TxSegmented, s.TxKicks, s.TxRefused(), s.TxDroppedInvalid)
	}
	return d, nil
}
