// Package bbr is BBR version 3 as draft-ietf-ccwg-bbr-06 specifies it: a model of the path, made of its bandwidth, its round-trip time and the volume of data that
// it carries without loss, and a state machine that probes for changes of each. The transport paces at the rate and obeys the window that follow
// from the model; there is no other congestion window in recovery, so that PRR is not used.
//
// The names are the draft's. Where its pseudocode contradicts its prose or itself, a comment that begins with "Draft:" says what is wrong and what was chosen.
// All arithmetic is on integers: bytes, bytes per second, nanoseconds, gains in percent.
//
// Importing the package registers it as "bbr".
package bbr

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Name is the algorithm's registered name.
const Name = "bbr"

func init() { congestion.Register(Name, New) }

// New returns a Controller, which needs Init before its first use.
func New() congestion.Controller { return &bbr{} }

// Constants of §2.5 to §2.16. Gains and shares are in percent.
const (
	startupPacingGain   = 277
	drainPacingGain     = 50
	probeDownPacingGain = 90
	probeUpPacingGain   = 125
	cruisePacingGain    = 100
	defaultCwndGain     = 200
	probeUpCwndGain     = 225
	probeRTTCwndGain    = 50
	pacingMargin        = 1

	lossThresh         = 2
	beta               = 70
	headroom           = 15
	minPipeSegments    = 4
	startupFullLossCnt = 6
	fullBWGrowth       = 125
	fullBWRounds       = 3
	drainRounds        = 3
	extraAckedRounds   = 10
	renoRoundsBound    = 63

	minRTTFilterLen  = 10 * time.Second
	probeRTTInterval = 5 * time.Second
	probeRTTDuration = 200 * time.Millisecond
	probeWaitBase    = 2 * time.Second
	probeWaitRandom  = time.Second
)

// Infinity of the draft, for volumes, rates and times.
const (
	noVolume = congestion.MaxWindow
	noRate   = congestion.MaxRate
	noRTT    = time.Duration(math.MaxInt64)
)

// state is BBR.state (§3.3).
type state uint8

const (
	none state = iota // only as undo_state
	startup
	drain
	probeBWDown
	probeBWCruise
	probeBWRefill
	probeBWUp
	probeRTT
)

var stateNames = [...]string{"none", "Startup", "Drain", "ProbeBW_DOWN", "ProbeBW_CRUISE", "ProbeBW_REFILL", "ProbeBW_UP", "ProbeRTT"}

func (s state) String() string { return stateNames[s] }

// ackPhase is BBR.ack_phase (§2.14).
type ackPhase uint8

const (
	acksInit ackPhase = iota
	acksRefilling
	acksProbeStarting
	acksProbeFeedback
	acksProbeStopping
)

// recoveryKind tells what loss recovery is under way.
type recoveryKind uint8

const (
	noRecovery recoveryKind = iota
	fastRecovery
	rtoRecovery
)

// bbr is the state of one connection.
type bbr struct {
	conn
	model

	state      state
	pacingGain uint64
	cwndGain   uint64

	cwnd        uint64 // C.cwnd
	pacingRate  uint64 // C.pacing_rate
	sendQuantum uint64 // C.send_quantum
	maxInflight uint64
	priorCwnd   uint64
	rttSeen     bool // the initial pacing rate is based on a round-trip time

	fullPipe
	drainStartRound uint64
	probe
	probeRTTState
	undo
	recovery recoveryKind
}

// conn is what BBR knows of the connection (C) and of the ACK being processed (RS).
type conn struct {
	mss, initialCwnd uint64
	noSACK           bool
	rand             *rand.Rand
	now              congestion.Time
	delivered        uint64
	inFlight         uint64
	cwndLimited      bool   // C.is_cwnd_limited
	full             bool   // the window was full ...
	fullAt           uint64 // ... last when so much had been delivered
	newlyAcked       uint64
	rs               congestion.RateSample
}

var _ congestion.Controller = (*bbr)(nil)

// Init implements congestion.Controller (§5.2.1).
func (b *bbr) Init(cfg congestion.Config) {
	mss := max(uint64(cfg.MSS), 1)
	*b = bbr{
		conn:  conn{mss: mss, noSACK: cfg.NoSelectiveAcks, rand: cfg.Rand, now: cfg.Now},
		model: newModel(cfg.Now, cfg.SRTT),
		cwnd:  max(min(cfg.InitialWindow, congestion.MaxWindow), mss),
	}
	b.initialCwnd = b.cwnd
	b.maxInflight = b.cwnd
	b.acksPerInc = noVolume
	b.cycleStamp = cfg.Now
	// Draft: OnInit leaves the ProbeRTT schedule out. It starts with the connection.
	b.probeRTTMinDelay, b.probeRTTMinStamp = noRTT, cfg.Now
	b.initPacingRate(cfg.SRTT)
	b.enterStartup()
	b.setSendQuantum()
}

// OnSent implements congestion.Controller. It notes when the window is full, for C.is_cwnd_limited: what a transport takes for limited may be generous towards
// slow start, of which BBR has none. A window with less room than a burst is full.
func (b *bbr) OnSent(_ congestion.Time, _, inFlight uint64) {
	if inFlight+max(b.mss, b.sendQuantum) > b.cwnd {
		b.full, b.fullAt = true, b.delivered
	}
}

// OnIdleRestart implements congestion.Controller (§5.4.1, HandleRestartFromIdle). The window is kept.
func (b *bbr) OnIdleRestart(now congestion.Time, _ time.Duration) {
	b.now, b.inFlight = now, 0
	b.idleRestart = true
	b.aggregation.Restart(now)
	if b.inProbeBW() {
		b.setPacingRate(100)
	} else if b.state == probeRTT {
		b.checkProbeRTTDone()
	}
}

// OnAck implements congestion.Controller (§5.2.3, UpdateOnACK).
func (b *bbr) OnAck(ev *congestion.AckEvent) {
	b.now = ev.Now
	b.delivered, b.inFlight = ev.Delivered, ev.InFlight
	b.newlyAcked = ev.Acked
	b.savedNow = false
	if !ev.Sample.HasPacket {
		return // nothing was delivered
	}
	b.rs = ev.Sample
	// In the last packet-timed round trip, that is, since the packet left.
	b.cwndLimited = ev.CwndLimited && b.full && b.fullAt >= b.rs.PriorDelivered
	b.rs.AppLimited = b.quiet.Has(ev.Sample.PriorDelivered) || ev.Sample.AppLimited
	if b.rs.RTT <= 0 {
		b.rs.RTT = ev.RTT // of a retransmission, if timestamps tell
	}
	if !b.rttSeen && ev.SRTT > 0 {
		b.initPacingRate(ev.SRTT)
	}
	b.updateModelAndState()
	b.updateControlParameters()
}

func (b *bbr) updateModelAndState() {
	b.updateLatestDeliverySignals()
	b.updateCongestionSignals()
	b.updateACKAggregation()
	b.checkFullBWReached()
	b.checkStartupDone()
	b.checkDrainDone()
	b.updateProbeBWCyclePhase()
	b.updateMinRTT()
	b.checkProbeRTT()
	b.advanceLatestDeliverySignals()
	b.boundBWForModel()
}

func (b *bbr) updateControlParameters() {
	b.setPacingRate(b.pacingGain)
	b.setSendQuantum()
	b.setCwnd()
}

// OnMSS implements congestion.Controller.
func (b *bbr) OnMSS(now congestion.Time, mss uint32) {
	b.now = now
	b.mss = max(uint64(mss), 1)
	b.cwnd = max(b.cwnd, b.mss)
	b.setSendQuantum()
}

// Control implements congestion.Controller. BBR has no slow start threshold.
func (b *bbr) Control() congestion.Control {
	return congestion.Control{
		Cwnd:         b.cwnd,
		Ssthresh:     congestion.MaxWindow,
		PacingRate:   b.pacingRate,
		SendQuantum:  b.sendQuantum,
		Capabilities: congestion.NeedsPacing | congestion.OwnsRecovery,
	}
}

// Snapshot implements congestion.Controller. Volumes are in bytes, rates in bytes per second, gains are factors; what the model leaves open is infinite.
func (b *bbr) Snapshot(s *congestion.Snapshot) {
	values := s.Values[:0]
	add := func(name string, v float64) { values = append(values, congestion.NamedValue{Name: name, Value: v}) }
	infinite := func(v, infinity uint64) float64 {
		if v >= infinity {
			return math.Inf(1)
		}
		return float64(v)
	}
	add("pacing_gain", float64(b.pacingGain)/100)
	add("cwnd_gain", float64(b.cwndGain)/100)
	add("max_bw", float64(b.maxBW))
	add("bw_shortterm", infinite(b.bwShortterm, noRate))
	add("inflight_longterm", infinite(b.inflightLongterm, noVolume))
	add("inflight_shortterm", infinite(b.inflightShortterm, noVolume))
	add("max_inflight", float64(b.maxInflight))
	add("extra_acked", float64(b.aggregation.Extra()))
	add("round_count", float64(b.roundCount))
	add("full_bw_count", float64(b.fullBWCount))
	*s = congestion.Snapshot{
		Algorithm: Name, State: b.state.String(),
		Cwnd: b.cwnd, Ssthresh: congestion.MaxWindow, PacingRate: b.pacingRate, Bandwidth: b.bw,
		Values: values,
	}
	if b.minRTT != noRTT {
		s.MinRTT = b.minRTT
	}
}
