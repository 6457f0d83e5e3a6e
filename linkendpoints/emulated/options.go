package emulated

import (
	"fmt"
	"math"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// BitRate is a rate in bits per second.
type BitRate uint64

// Units of rate.
const (
	Kbps BitRate = 1000
	Mbps         = 1000 * Kbps
	Gbps         = 1000 * Mbps
)

// String returns the rate in the largest unit that divides it, as in "100Mbit/s".
func (r BitRate) String() string {
	switch {
	case r != 0 && r%Gbps == 0:
		return fmt.Sprintf("%dGbit/s", r/Gbps)
	case r != 0 && r%Mbps == 0:
		return fmt.Sprintf("%dMbit/s", r/Mbps)
	case r != 0 && r%Kbps == 0:
		return fmt.Sprintf("%dkbit/s", r/Kbps)
	}
	return fmt.Sprintf("%dbit/s", uint64(r))
}

// Bytes returns how many bytes pass at this rate in d.
func (r BitRate) Bytes(d time.Duration) int {
	return int(float64(r) / 8 * d.Seconds())
}

// The limits of what can be configured: beyond them arithmetic in nanoseconds would overflow.
const (
	maxRate  = 10_000 * Gbps
	maxDelay = 24 * time.Hour
)

// DefaultMTU is the MTU of a path that sets none, in bytes.
const DefaultMTU = 1500

// Options configure a Path.
type Options struct {
	// Forward is the direction from left to right, Reverse the other.
	Forward, Reverse Link
	// Left and Right are the hosts of each side. A side without any has one that receives everything.
	Left, Right []Host
	// MTU is the largest packet that the endpoints take, in bytes, IP header included. 0 means DefaultMTU.
	MTU uint32
	// Clock tells the time and runs the timers. Nil means the system's clock.
	Clock tcpip.Clock
	// Seed determines all that is random.
	Seed uint64
	// ChecksumOffload makes the endpoints say that checksums are neither needed nor verified, which saves a stack to compute them. The path damages nothing, so
	// they would say nothing.
	ChecksumOffload bool
}

// Host is one host at a side of a path.
type Host struct {
	// Addresses are the IP addresses whose packets go to the host. The first host without addresses receives what belongs to nobody else.
	Addresses []tcpip.Address
	// Delay is that of the host's access link, added to the path's in each direction.
	Delay time.Duration
	// LinkAddress is what the endpoint tells as its own. Packets carry no link header, so that it is seen by nobody else.
	LinkAddress tcpip.LinkAddress
}

// Link configures one direction of a path. The zero value delivers everything at once.
type Link struct {
	// Rate is the capacity; 0 means no limit, and then there is no queue.
	Rate BitRate
	// Trace gives the instants of delivery in place of Rate.
	Trace *Trace
	// Overhead is added to the size of each packet when it is serialised, in bytes: framing, for example.
	Overhead int
	// Delay is the propagation delay.
	Delay time.Duration
	// Jitter is a random delay between 0 and this, drawn uniformly for each packet. Packets keep their order all the same, unless JitterReorders.
	Jitter         time.Duration
	JitterReorders bool
	// Aggregate holds deliveries back until the next multiple of this interval, as a medium that is shared in slots does.
	Aggregate time.Duration
	// Queue is the queue discipline in front of a limited rate; nil means FIFO{Packets: DefaultQueuePackets}.
	Queue Queue
	// Loss decides which packets the wire loses; nil means none.
	Loss Loss
	// MarkCE is the probability at which the wire marks an ECN-capable packet as CE (RFC 3168).
	MarkCE float64
	// Reorder delays some of the packets, so that others pass them.
	Reorder Reorder
	// Duplicate is the probability at which a packet is delivered twice.
	Duplicate float64
	// Policer drops what exceeds a token bucket, in front of the queue; nil means none.
	Policer *Policer
	// Steps change the link over time, in ascending order.
	Steps []Step
	// SampleInterval is the distance of the samples that Stats.Series holds; 0 means none.
	SampleInterval time.Duration
}

// Reorder delays a packet by Delay with a probability, independently of others.
type Reorder struct {
	Probability float64
	Delay       time.Duration
}

// Policer is a token bucket (RFC 2697's committed part): a packet that finds fewer tokens than its size is dropped. The bucket starts full.
type Policer struct {
	// Rate is that of the tokens.
	Rate BitRate
	// Burst is the bucket's size in bytes.
	Burst int
}

// Step is a change of a link's properties.
type Step struct {
	// At is the time since the path was made.
	At time.Duration
	// Rate and Delay take the place of the link's. A link that has a trace keeps to it, and one that has no limit keeps none.
	Rate  BitRate
	Delay time.Duration
	// Down stops serialisation until the next step: packets wait in the queue.
	Down bool
}

// DefaultQueuePackets is the limit of the queue of a Link that sets none.
const DefaultQueuePackets = 1000

// Validate reports the first mistake in o, naming the field.
func (o *Options) Validate() error {
	if o.MTU != 0 && (o.MTU < 68 || o.MTU > math.MaxUint16) {
		return fmt.Errorf("MTU: %d is not between 68 and 65535", o.MTU)
	}
	if err := o.Forward.validate(); err != nil {
		return fmt.Errorf("Forward.%w", err)
	}
	if err := o.Reverse.validate(); err != nil {
		return fmt.Errorf("Reverse.%w", err)
	}
	if err := validateHosts(o.Left); err != nil {
		return fmt.Errorf("Left%w", err)
	}
	if err := validateHosts(o.Right); err != nil {
		return fmt.Errorf("Right%w", err)
	}
	return nil
}

func validateHosts(hosts []Host) error {
	owner := make(map[tcpip.Address]int)
	for i, h := range hosts {
		if err := checkDelay("Delay", h.Delay); err != nil {
			return fmt.Errorf("[%d].%w", i, err)
		}
		for _, a := range h.Addresses {
			if other, taken := owner[a]; taken {
				return fmt.Errorf("[%d].Addresses: %v is host %d's", i, a, other)
			}
			owner[a] = i
		}
	}
	return nil
}

// Validate reports the first mistake in l, naming the field.
func (l *Link) Validate() error { return l.validate() }

func (l *Link) validate() error {
	for _, check := range []error{
		checkRate("Rate", l.Rate),
		checkDelay("Delay", l.Delay),
		checkDelay("Jitter", l.Jitter),
		checkDelay("Aggregate", l.Aggregate),
		checkDelay("Reorder.Delay", l.Reorder.Delay),
		checkDelay("SampleInterval", l.SampleInterval),
		checkProbability("MarkCE", l.MarkCE),
		checkProbability("Duplicate", l.Duplicate),
		checkProbability("Reorder.Probability", l.Reorder.Probability),
		checkRange("Overhead", l.Overhead, 0, 1<<16),
	} {
		if check != nil {
			return check
		}
	}
	if l.Trace != nil && l.Rate != 0 {
		return fmt.Errorf("Trace: the link has a Rate as well")
	}
	if l.Queue != nil {
		if err := l.Queue.validate(); err != nil {
			return fmt.Errorf("Queue.%w", err)
		}
	}
	if l.Loss != nil {
		if err := l.Loss.validate(); err != nil {
			return fmt.Errorf("Loss.%w", err)
		}
	}
	if p := l.Policer; p != nil {
		if err := checkRate("Policer.Rate", p.Rate); err != nil {
			return err
		}
		if err := checkRange("Policer.Burst", p.Burst, 1, math.MaxInt32); err != nil {
			return err
		}
	}
	return l.validateSteps()
}

func (l *Link) validateSteps() error {
	for i, s := range l.Steps {
		if s.At < 0 || i > 0 && s.At < l.Steps[i-1].At {
			return fmt.Errorf("Steps[%d].At: %v is not in ascending order", i, s.At)
		}
		if err := checkRate("Rate", s.Rate); err != nil {
			return fmt.Errorf("Steps[%d].%w", i, err)
		}
		if l.Rate != 0 && s.Rate == 0 && !s.Down {
			return fmt.Errorf("Steps[%d].Rate: 0 on a link with a rate", i)
		}
		if err := checkDelay("Delay", s.Delay); err != nil {
			return fmt.Errorf("Steps[%d].%w", i, err)
		}
	}
	return nil
}

func checkRate(field string, r BitRate) error {
	if r > maxRate {
		return fmt.Errorf("%s: %v is above %v", field, r, maxRate)
	}
	return nil
}

func checkDelay(field string, d time.Duration) error {
	if d < 0 || d > maxDelay {
		return fmt.Errorf("%s: %v is not between 0 and %v", field, d, maxDelay)
	}
	return nil
}

func checkProbability(field string, p float64) error {
	if !(p >= 0 && p <= 1) { // NaN is none.
		return fmt.Errorf("%s: %v is not a probability", field, p)
	}
	return nil
}

func checkRange(field string, v, least, most int) error {
	if v < least || v > most {
		return fmt.Errorf("%s: %d is not between %d and %d", field, v, least, most)
	}
	return nil
}
