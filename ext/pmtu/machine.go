package pmtu

import (
	"fmt"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// Mode says when a Machine probes. The values are those of Linux's tcp_mtu_probing.
type Mode uint8

const (
	// Off never probes, and detects no black holes: the MTU is Max, lowered by TooBig.
	Off Mode = iota
	// OnBlackHole does not probe until large packets vanish.
	OnBlackHole
	// Always starts at Base and probes upwards.
	Always
)

// State is a state of RFC 8899 §5.2.
type State uint8

// The states. Complete is the RFC's SEARCH_COMPLETE.
const (
	Disabled State = iota
	Base
	Searching
	Complete
	Error
)

var stateNames = [...]string{"DISABLED", "BASE", "SEARCHING", "SEARCH_COMPLETE", "ERROR"}

// String returns the RFC's name of the state.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Config holds the constants of RFC 8899 §5.1. Zero fields have the defaults named; what contradicts itself is put right: Min ≤ Base ≤ Max.
type Config struct {
	Mode Mode
	// Min is the least MTU to use (MIN_PLPMTU), 552 by default: it must be what the path carries, or can carry in fragments. 1280 for IPv6.
	Min uint32
	// Base is the MTU that is expected to work everywhere (BASE_PLPMTU), 1200 by default; 1280 for IPv6.
	Base uint32
	// Max is the MTU of the link (MAX_PLPMTU), 1500 by default.
	Max uint32
	// Step ends the search when it is certain to less than this, 16 octets by default.
	Step uint32
	// MaxProbes is how many probes of a size are lost until it is too large (MAX_PROBES), 3 by default.
	MaxProbes int
	// ProbeTimeout is when a probe counts as lost unless somebody said so before (PROBE_TIMER), 15 s by default; the RFC forbids less than 1 s.
	ProbeTimeout time.Duration
	// RaiseInterval is the time until a search begins anew, since the path may have grown (PMTU_RAISE_TIMER), 10 minutes by default.
	RaiseInterval time.Duration
	// Losses is how many times in a row large packets are lost while smaller ones pass until that is a black hole, 3 by default. Timeouts is how many
	// retransmission timeouts suffice, without a packet of that size arriving in between, 2 by default.
	Losses, Timeouts int
}

func (c Config) withDefaults() Config {
	or := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	or(&c.Max, 1500)
	or(&c.Min, 552)
	or(&c.Base, 1200)
	or(&c.Step, 16)
	orInt := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	orInt(&c.MaxProbes, 3)
	orInt(&c.Losses, 3)
	orInt(&c.Timeouts, 2)
	if c.ProbeTimeout <= 0 {
		c.ProbeTimeout = 15 * time.Second
	}
	c.ProbeTimeout = max(c.ProbeTimeout, time.Second)
	if c.RaiseInterval <= 0 {
		c.RaiseInterval = 10 * time.Minute
	}
	return c
}

// The bounds of an MTU: RFC 791's least, and the longest IPv6 packet that is no jumbogram.
const (
	leastMTU   = 68
	largestMTU = 65535 + 40
)

// within returns c for a link with the given MTU.
func (c Config) within(link uint32) Config {
	c.Max = min(max(link, leastMTU), largestMTU)
	c.Min = min(max(c.Min, leastMTU), c.Max)
	c.Base = min(max(c.Base, c.Min), c.Max)
	return c
}

// Machine finds the path MTU by probing (RFC 8899), for one path. It is a value of a state machine: it sends nothing and reads no clock. The transport
//
//   - asks Probe whenever it could send, and if there is one sends a packet of that size that may not be fragmented, and says Sent;
//   - says what became of packets, probes or not: Acked, ProbeLost, Lost, TimedOut;
//   - passes on ICMP errors that it checked, with TooBig;
//   - calls Tick at Deadline, or when it sends after that;
//   - uses MTU for what it sends.
//
// The loss of a probe is no sign of congestion (RFC 8899 §3, requirement 7). A Machine is not safe for concurrent use.
type Machine struct {
	// cfg is what was asked for within the bounds of the link.
	cfg, asked Config
	state      State
	// mtu is the size in use (PLPMTU).
	mtu uint32
	// low works; high is not known to fail. While bold, high itself is tried next.
	low, high uint32
	bold      bool
	// probe is the size that is probed for, 0 if none is chosen; outstanding says that one is under way, until timeout.
	probe       uint32
	outstanding bool
	timeout     tcpip.MonotonicTime
	// failed counts the probes of that size that were lost (PROBE_COUNT).
	failed int
	// raise is when to search again.
	raise tcpip.MonotonicTime
	// victim is the size of the smallest large packet lost or timed out since one of that size last arrived, 0 for none; lost and timeouts count how often. passed is the
	// size of the largest that arrived meanwhile, 0 for none; silent says that nothing has since a timeout.
	victim, passed uint32
	lost, timeouts int
	silent         bool
}

// NewMachine returns a Machine in state Disabled.
func NewMachine(cfg Config) *Machine {
	m := new(Machine)
	m.init(cfg)
	return m
}

func (m *Machine) init(cfg Config) {
	asked := cfg.withDefaults()
	cfg = asked.within(asked.Max)
	*m = Machine{cfg: cfg, asked: asked, mtu: cfg.Max, low: cfg.Min, high: cfg.Max}
	if cfg.Mode == Always {
		m.mtu = cfg.Base
	}
}

// State returns the state.
func (m *Machine) State() State { return m.state }

// MTU returns the size to use for packets that are not probes.
func (m *Machine) MTU() uint32 { return m.mtu }

// Config returns the configuration with its defaults filled in.
func (m *Machine) Config() Config { return m.cfg }

// Start says that the path carries packets at all, as when a handshake is complete. known is the path MTU if that was found before, else 0. With mode Always the search
// begins, at Base, or from known after RaiseInterval.
func (m *Machine) Start(now tcpip.MonotonicTime, known uint32) {
	if m.state != Disabled || m.cfg.Mode == Off {
		return
	}
	known = min(known, m.cfg.Max)
	if known < m.cfg.Base {
		known = 0
	}
	switch {
	case m.cfg.Mode == OnBlackHole && known != 0:
		m.mtu = known
	case m.cfg.Mode == Always && known != 0:
		m.low, m.high, m.mtu = known, known, known
		m.complete(now)
	case m.cfg.Mode == Always:
		m.base(m.cfg.Max)
	}
}

// Suspect says that larger packets than mtu vanish on the path, as somebody else found out: the search begins, unless it has begun. It changes nothing with mode Off.
func (m *Machine) Suspect(now tcpip.MonotonicTime, mtu uint32) {
	if m.state != Disabled || m.cfg.Mode == Off || mtu >= m.cfg.Max {
		return
	}
	if mtu < m.cfg.Base {
		m.fail(now, mtu, m.cfg.Base, true)
		return
	}
	m.base(m.cfg.Max)
	m.mtu = mtu
}

// base enters the Base state: everything is in doubt but Base, and that is to be confirmed.
func (m *Machine) base(high uint32) {
	m.state, m.mtu = Base, m.cfg.Base
	m.low, m.high, m.bold = m.cfg.Min, max(high, m.cfg.Base), true
	m.clearLosses()
	m.choose(m.cfg.Base)
}

// search enters the Searching state with Base, or more, known to work.
func (m *Machine) search(now tcpip.MonotonicTime) {
	m.state = Searching
	m.next(now)
}

// complete enters the SearchComplete state, or stays in Error if not even Base works.
func (m *Machine) complete(now tcpip.MonotonicTime) {
	m.mtu = m.low
	if m.low >= m.cfg.Base {
		m.state = Complete
	} else {
		m.state = Error
	}
	m.choose(0)
	m.raise = now.Add(m.cfg.RaiseInterval)
}

// fail enters the Error state: Base does not work. mtu is used while the search goes on below high, or at it if bold.
func (m *Machine) fail(now tcpip.MonotonicTime, mtu, high uint32, bold bool) {
	m.state, m.mtu = Error, max(mtu, m.cfg.Min)
	m.low, m.high, m.bold = m.cfg.Min, max(min(high, m.cfg.Base), m.cfg.Min), bold
	m.clearLosses()
	m.next(now)
}

// choose makes size the next to be probed for, 0 for none.
func (m *Machine) choose(size uint32) { m.probe, m.failed, m.outstanding = size, 0, false }

// next chooses the next size between low and high, or ends the search.
func (m *Machine) next(now tcpip.MonotonicTime) {
	switch {
	case m.low >= m.high, !m.bold && m.high-m.low < m.cfg.Step:
		m.complete(now)
	case m.bold:
		m.choose(m.high)
	default:
		m.choose(between(m.low, m.high))
	}
}

// common are MTUs that paths have: IPv6's least, VPNs, PPPoE, Ethernet, FDDI, jumbo frames.
var common = [...]uint32{1280, 1380, 1400, 1420, 1440, 1460, 1472, 1480, 1492, 1500, 2002, 4352, 8166, 9000, 9216}

// between returns a size above low, at most high, that about halves what is in question: a common one if there is one near the middle.
func between(low, high uint32) uint32 {
	mid := low + (high-low+1)/2
	best, distance := mid, (high-low)/4+1
	for _, c := range common {
		if d := max(c, mid) - min(c, mid); c > low && c <= high && d < distance {
			best, distance = c, d
		}
	}
	return best
}

// Probe returns the size of the probe that should be sent now, and false if none should. It changes nothing.
func (m *Machine) Probe() (size uint32, ok bool) {
	return m.probe, m.probe != 0 && !m.outstanding
}

// Sent says that the probe was sent.
func (m *Machine) Sent(now tcpip.MonotonicTime) {
	if m.probe != 0 && !m.outstanding {
		m.outstanding, m.timeout = true, now.Add(m.cfg.ProbeTimeout)
	}
}

// Acked says that a packet of that size has arrived. size is the whole IP packet's, as it was sent: of one segment of a GSO packet.
func (m *Machine) Acked(now tcpip.MonotonicTime, size uint32) {
	m.silent = false
	if m.victim != 0 {
		if size >= m.victim {
			m.clearLosses()
		} else {
			m.passed = max(m.passed, size)
		}
	}
	if m.probe == 0 || size < m.probe {
		return
	}
	// What arrived may be larger than what was probed for, if an older answer comes late.
	m.low, m.high = min(max(m.probe, m.low), m.cfg.Max), max(m.high, m.probe)
	m.mtu = max(m.mtu, m.low)
	switch {
	case m.state == Error && m.low >= m.cfg.Base:
		m.high, m.bold = m.cfg.Max, true
		m.search(now)
	case m.state == Base:
		m.search(now)
	default:
		m.next(now)
	}
}

// ProbeLost says that the probe under way is lost. It is called instead of Lost, and does not count as congestion.
func (m *Machine) ProbeLost(now tcpip.MonotonicTime) {
	if !m.outstanding {
		return
	}
	m.outstanding = false
	m.failed++
	if m.failed < m.cfg.MaxProbes {
		return
	}
	if m.state == Base {
		m.fail(now, m.cfg.Min, m.cfg.Base-1, false)
		return
	}
	m.high, m.bold = max(m.probe-1, m.low), false
	if m.mtu > m.high {
		m.mtu = m.low // a router's word, which proved wrong
	}
	m.next(now)
}

// ProbeUnsent says that the probe under way was not lost but never sent, or that its fate cannot be told: it is sent again and counts for nothing.
func (m *Machine) ProbeUnsent() { m.outstanding = false }

// Lost says that a packet of that size, not a probe, is lost, while later ones arrived. It reports whether that makes a black hole (RFC 8899 §4.3, RFC 4821 §7.7):
// MTU is smaller now, and what is outstanding should be sent again in packets of that size.
func (m *Machine) Lost(now tcpip.MonotonicTime, size uint32) bool {
	if m.cfg.Mode == Off || size <= m.cfg.Base || m.mtu <= m.cfg.Base {
		return false // what fits Base is no victim: it is congestion that loses it
	}
	m.missed(size)
	if m.lost < m.cfg.Losses || m.passed == 0 {
		return false
	}
	m.base(m.mtu)
	return true
}

// TimedOut says that the retransmission timer went off for a packet of that size. It reports the same as Lost. In the next transmission the packet should have
// the size of Fallback.
func (m *Machine) TimedOut(now tcpip.MonotonicTime, size uint32) bool {
	// A packet smaller than what is in use is no victim, unless it is a part of one: nothing so large has arrived since.
	if m.cfg.Mode == Off || size <= m.cfg.Min || size < m.mtu && size <= m.cfg.Base && m.timeouts == 0 {
		return false
	}
	m.missed(size)
	m.timeouts++
	m.silent = true
	switch {
	case m.timeouts < m.cfg.Timeouts:
		return false
	case m.mtu > m.cfg.Base && m.passed >= m.cfg.Base:
		m.base(m.mtu)
	case m.mtu > m.cfg.Min:
		// Nobody knows whether Base arrives. It is the first to be tried when something does.
		m.fail(now, m.cfg.Min, m.cfg.Base, true)
	default:
		m.clearLosses()
		return false
	}
	return true
}

// missed counts the loss of a packet that may have been too large.
func (m *Machine) missed(size uint32) {
	m.lost++
	if m.victim == 0 || size < m.victim && !m.silent {
		m.victim = size
	}
}

// Fallback is the size in which to send again what timed out: Min until something arrives. Whether that arrives tells a black hole from a path that is down.
func (m *Machine) Fallback() uint32 {
	if m.silent {
		return min(m.cfg.Min, m.mtu)
	}
	return m.mtu
}

func (m *Machine) clearLosses() {
	m.victim, m.passed, m.lost, m.timeouts, m.silent = 0, 0, 0, 0, false
}

// TooBig passes on an ICMP error that was checked to belong to a packet of the path in flight, with the MTU that it has (RFC 8899 §4.6). It reports whether
// MTU is smaller now. An MTU of 0 says nothing but that the probe under way is lost. Nothing raises the MTU.
func (m *Machine) TooBig(now tcpip.MonotonicTime, mtu uint32) bool {
	switch {
	case mtu == 0:
		if m.outstanding {
			m.failed = m.cfg.MaxProbes - 1
			m.ProbeLost(now)
		}
		return false
	case mtu < m.cfg.Min:
		return false // not to be believed: Min works by definition
	case m.state == Disabled:
		if mtu < m.mtu {
			m.mtu = mtu
			return true
		}
		return false
	case mtu < m.mtu:
		m.narrow(now, mtu)
		return true
	case mtu < m.high:
		// The router says what is too much, and that may have been a probe: what it names is tried next.
		m.high, m.bold = max(mtu, m.low), true
		if m.probe > m.high {
			m.next(now)
		}
	}
	return false
}

// narrow takes an MTU below the one in use. The RFC goes back to Base, or to Min. The router's word has been checked: what it says is used while it is probed for.
func (m *Machine) narrow(now tcpip.MonotonicTime, mtu uint32) {
	if mtu < m.cfg.Base {
		m.fail(now, mtu, mtu, true)
		return
	}
	m.base(mtu)
	m.mtu = mtu
}

// SetMax changes the MTU of the link (MAX_PLPMTU).
func (m *Machine) SetMax(now tcpip.MonotonicTime, mtu uint32) {
	old := m.cfg.Max
	m.cfg = m.asked.within(mtu)
	switch {
	case m.state == Disabled:
		switch {
		case m.cfg.Mode == Always:
			m.mtu = min(max(m.mtu, m.cfg.Base), m.cfg.Max)
		case m.mtu == old:
			m.mtu = m.cfg.Max
		}
		m.mtu = min(m.mtu, m.cfg.Max)
		m.low, m.high = m.cfg.Min, m.cfg.Max
	case m.cfg.Max == old:
	case m.cfg.Max < old:
		m.mtu, m.low, m.high = min(m.mtu, m.cfg.Max), min(m.low, m.cfg.Max), min(m.high, m.cfg.Max)
		if m.probe > m.cfg.Max {
			m.next(now)
		}
	case m.state == Complete || m.state == Searching:
		m.high, m.bold = m.cfg.Max, true
		m.search(now)
	}
}

// Deadline returns when Tick is due, and false if never.
func (m *Machine) Deadline() (tcpip.MonotonicTime, bool) {
	switch {
	case m.outstanding:
		return m.timeout, true
	case m.probe == 0 && (m.state == Complete || m.state == Error):
		return m.raise, true
	}
	return tcpip.MonotonicTime{}, false
}

// Tick does what is due at now: a probe is taken for lost, or a new search begins. Calling it early, late or twice does no harm.
func (m *Machine) Tick(now tcpip.MonotonicTime) {
	at, ok := m.Deadline()
	if !ok || now.Before(at) {
		return
	}
	if m.outstanding {
		m.ProbeLost(now)
		return
	}
	m.bold = true
	if m.state == Error {
		m.high = m.cfg.Base
		m.next(now)
		return
	}
	m.high = m.cfg.Max
	m.search(now)
}
