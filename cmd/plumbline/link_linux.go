package main

import (
	"fmt"
	"io"

	"github.com/plumbline/plumbline/linkendpoints/tap"
)

// device is an opened link.
type device struct {
	*tap.Endpoint
	kind string
}

// openLink opens a device. failed is called at most once, if the device ends
// under the proxy.
func openLink(spec linkSpec, failed func(error)) (*device, error) {
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
		return nil, fmt.Errorf("proxy: %w", err)
	}
	return &device{ep, spec.kind}, nil
}

// name returns the device as --link has it.
func (d *device) name() string { return d.kind + ":" + d.Name() }

// report prints the statistics of the device.
func (d *device) report(w io.Writer) {
	s := d.Stats()
	fmt.Fprintf(w, "%-12s %d frames in (%d large, %d unchecked), %d dropped, %d errors\n",
		d.name()+":", s.RxFrames, s.RxGSO, s.RxPartialChecksum, s.RxDropped(), s.RxErrors)
	fmt.Fprintf(w, "             %d frames out (%d large), %d refused, %d invalid\n", s.TxFrames, s.TxGSO, s.TxRefused(), s.TxDroppedInvalid)
}
