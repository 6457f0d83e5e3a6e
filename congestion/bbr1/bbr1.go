// Package bbr1 is BBR version 1 as draft-cardwell-iccrg-bbr-congestion-control-00 and "BBR: Congestion-Based Congestion Control" (Communications of the ACM 60(2), 2017)
// specify it. (The draft's -01 is version 2; version 3 is package bbr.) It is here for comparisons with kernels and reports that use it: in shallow buffers and beside
// loss-based flows version 3 is the better neighbour.
//
// Two estimates make its model of the path: BtlBw, the largest delivery rate of ten round trips, and RTprop, the smallest round-trip time of ten seconds. It paces at gains
// around BtlBw and keeps at most two BDP in flight. Loss does not change the model, only the window while it is being recovered.
//
// Names and numbers of sections are the draft's. All arithmetic is on integers: bytes, bytes per second, nanoseconds, gains in ten-thousandths. Of what kernels have added to
// paper and draft it has the model of ACK aggregation (draft-ietf-ccwg-bbr §5.5.9, in kernels since Linux 5.1), without which it would keep fewer bytes in flight than they do
// wherever ACKs are delayed or bunched; it has no estimator of policers.
//
// Importing the package registers it as "bbr1".
package bbr1

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/plumbline/plumbline/congestion"
)

// Name is the algorithm's registered name.
const Name = "bbr1"

func init() { congestion.Register(Name, New) }

// New returns a Controller, which needs Init before its first use.
func New() congestion.Controller { return &bbr{} }

// Gains, in parts of unity.
const (
	unity       = 10_000
	highGain    = 28_854    // BBRHighGain, 2/ln(2): the least with which Startup doubles the rate each round (§4.3.2)
	drainGain   = 3_466     // 1/BBRHighGain drains in a round what Startup queued in one (§4.3.3)
	steadyCwnd  = 2 * unity // of ProbeBW, so that delayed and aggregated ACKs do not stop it (§4.3.4)
	fullPipeBar = unity + unity/4
)

// pacingGainCycle is that of ProbeBW (§4.3.4.3): probe, give back what the probe queued, cruise.
var pacingGainCycle = [...]uint64{unity + unity/4, unity - unity/4, unity, unity, unity, unity, unity, unity}

const (
	fullPipeRounds   = 3
	minPipeSegments  = 4                      // BBRMinPipeCwnd
	btlBwFilterLen   = 10                     // BBRBtlBwFilterLen, in round trips
	rtPropFilterLen  = 10 * time.Second       // BBRRTpropFilterLen
	probeRTTDuration = 200 * time.Millisecond // BBRProbeRTTDuration
	unknownRTT       = time.Duration(math.MaxInt64)
)

// Kernels keep the excess of ACKs for the present slot of five round trips and the one before, and let it add to the window what 100 ms bring, at most.
const (
	extraAckedSlot = 5 // round trips
	extraAckedMost = 100 * time.Millisecond
)

// state is BBR.state (§4.3.1).
type state uint8

const (
	startup state = iota
	drain
	probeBW
	probeRTT
)

var stateNames = [...]string{"Startup", "Drain", "ProbeBW", "ProbeRTT"}

func (s state) String() string { return stateNames[s] }

// bbr is the state of one connection.
type bbr struct {
	conn
	path
	recovery

	state       state
	pacingGain  uint64
	cwndGain    uint64
	cwnd        uint64
	pacingRate  uint64
	sendQuantum uint64
	targetCwnd  uint64
	rttSeen     bool // the initial pacing rate is based on a round-trip time

	// Full pipe (§4.3.2.2).
	filledPipe  bool
	fullBW      uint64
	fullBWCount int

	// The gain cycle (§4.3.4.3).
	cycleIndex int
	cycleStamp congestion.Time

	// ProbeRTT (§4.3.5).
	probeRTTTimed     bool // probe_rtt_done_stamp is set
	probeRTTDoneStamp congestion.Time
	probeRTTRoundDone bool
	idleRestart       bool
}

// conn is what BBR knows of the connection and of the ACK being processed.
type conn struct {
	mss, initialCwnd uint64
	rand             *rand.Rand
	now              congestion.Time
	delivered        uint64
	inFlight         uint64 // packets_in_flight
	priorInFlight    uint64 // the same before this ACK
	acked            uint64 // packets_delivered by this ACK
	lost             uint64 // packets_lost since the ACK before
	rs               congestion.RateSample
}

var _ congestion.Controller = (*bbr)(nil)

// Init implements congestion.Controller (§4.3.1, BBRInit).
func (b *bbr) Init(cfg congestion.Config) {
	mss := max(uint64(cfg.MSS), 1)
	*b = bbr{
		conn: conn{mss: mss, rand: cfg.Rand, now: cfg.Now},
		path: path{rtProp: unknownRTT, rtPropStamp: cfg.Now},
		cwnd: max(min(cfg.InitialWindow, congestion.MaxWindow), mss),
	}
	if cfg.SRTT > 0 {
		b.rtProp = cfg.SRTT
	}
	b.initialCwnd = b.cwnd
	b.targetCwnd = b.cwnd
	b.aggregation.Restart(cfg.Now)
	b.initPacingRate(cfg.SRTT)
	b.enterStartup()
	b.setSendQuantum()
}

// OnSent implements congestion.Controller. BBR learns from ACKs only.
func (b *bbr) OnSent(congestion.Time, uint64, uint64) {}

// OnIdleRestart implements congestion.Controller (§4.3.4.4, BBRHandleRestartFromIdle): what was known of the bandwidth still stands, and the window is kept; it refills at
// just that rate.
func (b *bbr) OnIdleRestart(now congestion.Time, _ time.Duration) {
	b.now, b.inFlight = now, 0
	b.idleRestart = true
	b.aggregation.Restart(now)
	if b.state == probeBW {
		b.setPacingRateWithGain(unity)
	}
}

// OnAck implements congestion.Controller (BBRUpdateOnACK).
func (b *bbr) OnAck(ev *congestion.AckEvent) {
	b.now, b.delivered = ev.Now, ev.Delivered
	b.inFlight, b.priorInFlight = ev.InFlight, ev.PriorInFlight
	b.acked = ev.Acked
	if !ev.Sample.HasPacket {
		return // nothing was delivered; what was lost is kept for the next ACK
	}
	b.rs = ev.Sample
	b.rs.AppLimited = b.quiet.Has(b.rs.PriorDelivered) || b.rs.AppLimited
	if b.rs.RTT <= 0 {
		b.rs.RTT = ev.RTT // of a retransmission, if timestamps tell
	}
	if !b.rttSeen && ev.SRTT > 0 {
		b.initPacingRate(ev.SRTT)
	}
	b.updateModelAndState()
	b.updateControlParameters()
	b.lost = 0
}

func (b *bbr) updateModelAndState() {
	b.updateBtlBw()
	b.updateAggregation()
	b.checkCyclePhase()
	b.checkFullPipe()
	b.checkDrain()
	b.updateRTprop()
	b.checkProbeRTT()
}

func (b *bbr) updateControlParameters() {
	b.setPacingRateWithGain(b.pacingGain)
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

// Snapshot implements congestion.Controller. Volumes are in bytes, gains are factors.
func (b *bbr) Snapshot(s *congestion.Snapshot) {
	*s = congestion.Snapshot{
		Algorithm: Name, State: b.state.String(),
		Cwnd: b.cwnd, Ssthresh: congestion.MaxWindow, PacingRate: b.pacingRate, Bandwidth: b.btlBw,
		Values: append(s.Values[:0],
			congestion.NamedValue{Name: "pacing_gain", Value: float64(b.pacingGain) / unity},
			congestion.NamedValue{Name: "cwnd_gain", Value: float64(b.cwndGain) / unity},
			congestion.NamedValue{Name: "target_cwnd", Value: float64(b.targetCwnd)},
			congestion.NamedValue{Name: "extra_acked", Value: float64(b.aggregation.Extra())},
			congestion.NamedValue{Name: "cycle_index", Value: float64(b.cycleIndex)},
			congestion.NamedValue{Name: "round_count", Value: float64(b.roundCount)},
			congestion.NamedValue{Name: "full_bw_count", Value: float64(b.fullBWCount)},
		),
	}
	if b.rtProp != unknownRTT {
		s.MinRTT = b.rtProp
	}
}
