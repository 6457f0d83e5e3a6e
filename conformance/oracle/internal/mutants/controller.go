package mutants

import (
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/reno"
)

// controller is Reno with a fault.
type controller struct {
	congestion.Controller
	cfg congestion.Config
	// control changes what Reno tells.
	control func(c *controller, out congestion.Control) congestion.Control
	// deafTo are the signals that Reno is not told.
	deafTo []congestion.Signal
	// extra is what the fault adds to the window, and floor what it never falls
	// below.
	extra, floor uint64
	onAck        func(c *controller, ev *congestion.AckEvent)
}

// Init implements congestion.Controller.
func (c *controller) Init(cfg congestion.Config) {
	c.cfg = cfg
	c.Controller.Init(cfg)
}

// OnSignal implements congestion.Controller.
func (c *controller) OnSignal(ev *congestion.SignalEvent) {
	for _, s := range c.deafTo {
		if s == ev.Signal {
			return
		}
	}
	c.Controller.OnSignal(ev)
}

// OnRecoveryExit implements congestion.Controller.
func (c *controller) OnRecoveryExit(now congestion.Time, inFlight uint64) {
	for _, s := range c.deafTo {
		if s == congestion.FastRecovery {
			return
		}
	}
	c.Controller.OnRecoveryExit(now, inFlight)
}

// OnAck implements congestion.Controller.
func (c *controller) OnAck(ev *congestion.AckEvent) {
	if c.onAck != nil {
		c.onAck(c, ev)
	}
	c.Controller.OnAck(ev)
}

// Control implements congestion.Controller.
func (c *controller) Control() congestion.Control {
	out := c.Controller.Control()
	out.Cwnd = max(out.Cwnd+c.extra, c.floor)
	if c.control != nil {
		out = c.control(c, out)
	}
	return out
}

// faulty registers Reno with a fault and returns the option that chooses it.
func faulty(name string, f controller) func(tcpip.Endpoint) tcpip.Error {
	congestion.Register(name, func() congestion.Controller {
		c := f
		c.Controller = reno.New()
		return &c
	})
	return congestionControl(name)
}
