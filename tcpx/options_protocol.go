package tcpx

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/cubic"
	"github.com/plumbline/plumbline/tcpx/internal/tcb"
)

// Defaults of the protocol options. Where stock has the option, the default is stock's, except for the largest buffers.
const (
	minBuffer     = 4 << 10
	defaultBuffer = 1 << 20
	maxBuffer     = 64 << 20

	defaultLinger2     = 60 * time.Second
	maxLinger2         = 120 * time.Second
	defaultTimeWait    = 60 * time.Second
	defaultMinRTO      = 200 * time.Millisecond
	defaultMaxRTO      = 120 * time.Second
	defaultInitialRTO  = time.Second
	defaultMaxRetries  = 15
	defaultSynRetries  = 7 // More than three minutes (RFC 9293 MUST-23).
	defaultKeepIdle    = 2 * time.Hour
	defaultKeepIntvl   = 75 * time.Second
	defaultKeepCount   = 9
	defaultDelayedACK  = 40 * time.Millisecond
	defaultOrphanLimit = 1 << 16
	defaultTimeWaitMax = 1 << 17
	defaultBudget      = 256 << 20
	orphanRetries      = 8
)

// Option configures a TCP made by New.
type Option func(*protocolOptions)

// protocolOptions are the settings of one stack's TCP.
type protocolOptions struct {
	sack, nagle, cookies, moderate bool
	timestamps, windowScaling      bool
	recovery                       tcpip.TCPRecovery
	sndBuf                         tcpip.TCPSendBufferSizeRangeOption
	rcvBuf                         tcpip.TCPReceiveBufferSizeRangeOption
	congestion                     string
	linger2, timeWait              time.Duration
	timeWaitReuse                  tcpip.TCPTimeWaitReuseOption
	minRTO, maxRTO, initialRTO     time.Duration
	maxRetries                     uint32
	synRetries                     uint8
	delayedACK                     time.Duration
	initialWindow                  int
	ecn                            ECNMode
	synQueue                       int
	memoryBudget                   int64
	orphanLimit                    int64
	timeWaitLimit                  int
	pmtu                           *pmtuOptions
	pacing                         bool
	// fastOpen is replaced, never changed; nil stands for the zero value.
	fastOpen *FastOpenConfig
}

// WithCongestion sets the congestion control algorithm of new connections by its registered name. The default is "cubic"; others must be imported to be known.
func WithCongestion(name string) Option {
	return func(o *protocolOptions) {
		if !slices.Contains(congestion.Names(), name) {
			panic(fmt.Sprintf("tcpx: unknown congestion control algorithm %q (known: %s)", name, strings.Join(congestion.Names(), ", ")))
		}
		o.congestion = name
	}
}

// WithMemoryBudget bounds the buffer memory of all connections of the stack, in bytes. Beyond half of it windows stop to grow, beyond three quarters they shrink and
// out-of-order data is dropped, and at the budget new data and new connections are refused. The default is 256 MiB; 0 means no limit.
func WithMemoryBudget(bytes int64) Option {
	return func(o *protocolOptions) { o.memoryBudget = bytes }
}

// WithSendBuffer sets the least, the default and the largest size of a send buffer in bytes (tcp_wmem). It panics unless 0 < least <= deflt <= most.
func WithSendBuffer(least, deflt, most int) Option {
	checkRange("send", least, deflt, most)
	return func(o *protocolOptions) {
		o.sndBuf = tcpip.TCPSendBufferSizeRangeOption{Min: least, Default: deflt, Max: most}
	}
}

// WithReceiveBuffer sets the least, the default and the largest size of a receive buffer in bytes (tcp_rmem). It panics unless 0 < least <= deflt <= most.
func WithReceiveBuffer(least, deflt, most int) Option {
	checkRange("receive", least, deflt, most)
	return func(o *protocolOptions) {
		o.rcvBuf = tcpip.TCPReceiveBufferSizeRangeOption{Min: least, Default: deflt, Max: most}
	}
}

func checkRange(what string, least, deflt, most int) {
	if !validRange(least, deflt, most) {
		panic(fmt.Sprintf("tcpx: impossible %s buffer sizes %d, %d, %d", what, least, deflt, most))
	}
}

func validRange(least, deflt, most int) bool { return least > 0 && least <= deflt && deflt <= most }

// WithSYNQueue bounds the half-open connections of a listener, beyond which SYN cookies are sent. The default, 0, takes the listener's backlog.
func WithSYNQueue(n int) Option {
	return func(o *protocolOptions) { o.synQueue = n }
}

// WithOrphanLimit bounds the connections that nobody owns any more and that still have data to deliver; beyond it they are reset at close. The default is 65536.
func WithOrphanLimit(n int) Option {
	return func(o *protocolOptions) { o.orphanLimit = int64(n) }
}

// WithTimeWaitLimit bounds the connections in TIME-WAIT, beyond which the oldest are forgotten. The default is 131072.
func WithTimeWaitLimit(n int) Option {
	return func(o *protocolOptions) { o.timeWaitLimit = n }
}

// WithNagle sets whether new sockets start with Nagle's algorithm, that is without TCP_NODELAY. The default is stock's: they start without it.
func WithNagle(on bool) Option {
	return func(o *protocolOptions) { o.nagle = on }
}

// WithTimestamps sets whether the timestamps option (RFC 7323 §3) is offered and accepted. The default is true.
func WithTimestamps(on bool) Option {
	return func(o *protocolOptions) { o.timestamps = on }
}

// WithWindowScaling sets whether the window scale option (RFC 7323 §2) is offered and accepted. The default is true.
func WithWindowScaling(on bool) Option {
	return func(o *protocolOptions) { o.windowScaling = on }
}

// WithDelayedACK sets how long an ACK may be held back. It must be below 500 ms (RFC 9293 MUST-40); the default is 40 ms.
func WithDelayedACK(d time.Duration) Option {
	if d < 0 || d >= 500*time.Millisecond {
		panic(fmt.Sprintf("tcpx: impossible delay of ACKs %v", d))
	}
	return func(o *protocolOptions) { o.delayedACK = d }
}

// WithInitialWindow sets the initial congestion window in segments. The default is 10 (RFC 6928).
func WithInitialWindow(segments int) Option {
	if segments < 1 {
		panic(fmt.Sprintf("tcpx: impossible initial window of %d segments", segments))
	}
	return func(o *protocolOptions) { o.initialWindow = segments }
}

// ECNMode tells whether connections use Explicit Congestion Notification.
type ECNMode = tcb.ECNMode

// The modes of ECN.
const (
	// ECNOff neither asks for ECN nor agrees to it.
	ECNOff = tcb.ECNOff
	// ECNOn asks for classic ECN (RFC 3168) and agrees to what the peer asks for.
	ECNOn = tcb.ECNOn
	// ECNPassive asks for nothing and agrees to what the peer asks for.
	ECNPassive = tcb.ECNPassive
	// ECNAccurate asks for accurate ECN (RFC 9768), takes classic ECN where the peer has no other, and agrees to what the peer asks for.
	ECNAccurate = tcb.ECNAccurate
)

// WithECN sets how connections use Explicit Congestion Notification. The default is ECNPassive, as in Linux. A SYN that asks for ECN and gets no answer is sent again
// without, so that a path that drops such SYNs costs time only. Accurate ECN feeds back by the ACE field alone; the AccECN option (RFC 9768 §3.2.3), which counts bytes,
// is neither sent nor read. It panics if the mode does not exist.
func WithECN(m ECNMode) Option {
	if m > ECNAccurate {
		panic(fmt.Sprintf("tcpx: unknown %v", m))
	}
	return func(o *protocolOptions) { o.ecn = m }
}

// WithPacing sets whether connections whose congestion control sets no rate, as Reno and CUBIC, are paced all the same: at twice the window in a round trip in slow start
// and 1.2 times the window after it, as Linux does under its fq queueing discipline. Flows that share a short queue then share it more equally. The default is
// false: a window's worth leaves as fast as acknowledgments come.
func WithPacing(on bool) Option {
	return func(o *protocolOptions) { o.pacing = on }
}

// WithInitialRTO sets the retransmission time-out before the first round-trip sample. The default is 1 s (RFC 6298 §2.1).
func WithInitialRTO(d time.Duration) Option {
	if d <= 0 {
		panic(fmt.Sprintf("tcpx: impossible initial RTO %v", d))
	}
	return func(o *protocolOptions) { o.initialRTO = d }
}

func newOptions(opts []Option) protocolOptions {
	o := protocolOptions{
		sack:          true,
		moderate:      true,
		timestamps:    true,
		windowScaling: true,
		recovery:      tcpip.TCPRACKLossDetection,
		sndBuf:        tcpip.TCPSendBufferSizeRangeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer},
		rcvBuf:        tcpip.TCPReceiveBufferSizeRangeOption{Min: minBuffer, Default: defaultBuffer, Max: maxBuffer},
		congestion:    cubic.Name,
		linger2:       defaultLinger2,
		timeWait:      defaultTimeWait,
		timeWaitReuse: tcpip.TCPTimeWaitReuseLoopbackOnly,
		minRTO:        defaultMinRTO,
		maxRTO:        defaultMaxRTO,
		initialRTO:    defaultInitialRTO,
		maxRetries:    defaultMaxRetries,
		synRetries:    defaultSynRetries,
		delayedACK:    defaultDelayedACK,
		initialWindow: 10,
		ecn:           ECNPassive,
		memoryBudget:  defaultBudget,
		orphanLimit:   defaultOrphanLimit,
		timeWaitLimit: defaultTimeWaitMax,
	}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// storeConfig makes the options take effect for connections to come. The caller holds mu or is the only user.
func (p *protocol) storeConfig() {
	o := &p.opts
	p.tuning = &tcb.Tuning{
		KeepIdle: defaultKeepIdle, KeepIntvl: defaultKeepIntvl, KeepCount: defaultKeepCount,
		Linger2: o.linger2, SynRetries: int(o.synRetries), RcvLowat: 1,
	}
	p.cfg.Store(&tcb.Config{
		MinRTO:               o.minRTO,
		MaxRTO:               o.maxRTO,
		InitialRTO:           o.initialRTO,
		MaxRetries:           int(o.maxRetries),
		OrphanRetries:        orphanRetries,
		SACK:                 o.sack,
		Timestamps:           o.timestamps,
		WindowScaling:        o.windowScaling,
		RACK:                 o.recovery&tcpip.TCPRACKLossDetection != 0,
		TimeWait:             o.timeWait,
		DelayedACK:           o.delayedACK,
		InitialWindow:        o.initialWindow,
		RcvBufMax:            o.rcvBuf.Max,
		SndBufMax:            o.sndBuf.Max,
		ChallengeACKInterval: p.challengeACKInterval(),
		Moderate:             o.moderate,
		ECN:                  o.ecn,
		Pacing:               o.pacing,
	})
}

// challengeACKInterval returns the stack's limit on replies to invalid segments.
func (p *protocol) challengeACKInterval() time.Duration {
	var limit stack.TCPInvalidRateLimitOption
	if err := p.stack.Option(&limit); err != nil {
		return 0
	}
	return time.Duration(limit)
}

// config returns what a new connection starts from.
func (p *protocol) config() *tcb.Config {
	c := p.cfg.Load()
	if c.ChallengeACKInterval != p.challengeACKInterval() {
		p.mu.Lock()
		p.storeConfig()
		c = p.cfg.Load()
		p.mu.Unlock()
	}
	return c
}

// SetOption implements stack.TransportProtocol.SetOption. Connections that exist already keep what they started with.
func (p *protocol) SetOption(option tcpip.SettableTransportProtocolOption) tcpip.Error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.opts.set(option); err != nil {
		return err
	}
	p.storeConfig()
	return nil
}

func (o *protocolOptions) set(option tcpip.SettableTransportProtocolOption) tcpip.Error {
	switch v := option.(type) {
	case *tcpip.TCPSACKEnabled:
		o.sack = bool(*v)
	case *tcpip.TCPRecovery:
		o.recovery = *v
	case *tcpip.TCPDelayEnabled:
		o.nagle = bool(*v)
	case *tcpip.TCPSendBufferSizeRangeOption:
		if !validRange(v.Min, v.Default, v.Max) {
			return &tcpip.ErrInvalidOptionValue{}
		}
		o.sndBuf = *v
	case *tcpip.TCPReceiveBufferSizeRangeOption:
		if !validRange(v.Min, v.Default, v.Max) {
			return &tcpip.ErrInvalidOptionValue{}
		}
		o.rcvBuf = *v
	case *tcpip.CongestionControlOption:
		if !slices.Contains(congestion.Names(), string(*v)) {
			return &tcpip.ErrNoSuchFile{} // As Linux.
		}
		o.congestion = string(*v)
	case *tcpip.TCPModerateReceiveBufferOption:
		o.moderate = bool(*v)
	case *tcpip.TCPLingerTimeoutOption:
		o.linger2 = max(time.Duration(*v), 0)
	case *tcpip.TCPTimeWaitTimeoutOption:
		o.timeWait = max(time.Duration(*v), 0)
	case *tcpip.TCPTimeWaitReuseOption:
		if *v < tcpip.TCPTimeWaitReuseDisabled || *v > tcpip.TCPTimeWaitReuseLoopbackOnly {
			return &tcpip.ErrInvalidOptionValue{}
		}
		o.timeWaitReuse = *v
	case *tcpip.TCPAlwaysUseSynCookies:
		o.cookies = bool(*v)
	default:
		return o.setRetransmission(option)
	}
	return nil
}

// setRetransmission sets the options of RFC 6298 and of R1 and R2 (RFC 9293 §3.8.3).
func (o *protocolOptions) setRetransmission(option tcpip.SettableTransportProtocolOption) tcpip.Error {
	switch v := option.(type) {
	case *tcpip.TCPMinRTOOption:
		switch d := time.Duration(*v); {
		case d < 0:
			o.minRTO = defaultMinRTO
		case d > o.maxRTO:
			return &tcpip.ErrInvalidOptionValue{}
		default:
			o.minRTO = d
		}
	case *tcpip.TCPMaxRTOOption:
		switch d := time.Duration(*v); {
		case d < 0:
			o.maxRTO = defaultMaxRTO
		case d < o.minRTO:
			return &tcpip.ErrInvalidOptionValue{}
		default:
			o.maxRTO = d
		}
	case *tcpip.TCPMaxRetriesOption:
		o.maxRetries = uint32(min(uint64(*v), 1<<16))
	case *tcpip.TCPSynRetriesOption:
		if *v < 1 {
			return &tcpip.ErrInvalidOptionValue{}
		}
		o.synRetries = uint8(*v)
	default:
		return &tcpip.ErrUnknownProtocolOption{}
	}
	return nil
}

// Option implements stack.TransportProtocol.Option.
func (p *protocol) Option(option tcpip.GettableTransportProtocolOption) tcpip.Error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	o := &p.opts
	switch v := option.(type) {
	case *tcpip.TCPSACKEnabled:
		*v = tcpip.TCPSACKEnabled(o.sack)
	case *tcpip.TCPRecovery:
		*v = o.recovery
	case *tcpip.TCPDelayEnabled:
		*v = tcpip.TCPDelayEnabled(o.nagle)
	case *tcpip.TCPSendBufferSizeRangeOption:
		*v = o.sndBuf
	case *tcpip.TCPReceiveBufferSizeRangeOption:
		*v = o.rcvBuf
	case *tcpip.CongestionControlOption:
		*v = tcpip.CongestionControlOption(o.congestion)
	case *tcpip.TCPAvailableCongestionControlOption:
		*v = tcpip.TCPAvailableCongestionControlOption(strings.Join(congestion.Names(), " "))
	case *tcpip.TCPModerateReceiveBufferOption:
		*v = tcpip.TCPModerateReceiveBufferOption(o.moderate)
	case *tcpip.TCPLingerTimeoutOption:
		*v = tcpip.TCPLingerTimeoutOption(o.linger2)
	case *tcpip.TCPTimeWaitTimeoutOption:
		*v = tcpip.TCPTimeWaitTimeoutOption(o.timeWait)
	case *tcpip.TCPTimeWaitReuseOption:
		*v = o.timeWaitReuse
	case *tcpip.TCPMinRTOOption:
		*v = tcpip.TCPMinRTOOption(o.minRTO)
	case *tcpip.TCPMaxRTOOption:
		*v = tcpip.TCPMaxRTOOption(o.maxRTO)
	case *tcpip.TCPMaxRetriesOption:
		*v = tcpip.TCPMaxRetriesOption(o.maxRetries)
	case *tcpip.TCPAlwaysUseSynCookies:
		*v = tcpip.TCPAlwaysUseSynCookies(o.cookies)
	case *tcpip.TCPSynRetriesOption:
		*v = tcpip.TCPSynRetriesOption(o.synRetries)
	default:
		return &tcpip.ErrUnknownProtocolOption{}
	}
	return nil
}
