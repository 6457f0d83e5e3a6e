package target

import (
	"maps"
	"time"

	"github.com/plumbline/plumbline/ext/pmtu"
	"github.com/plumbline/plumbline/tcpx"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// What tcpx offers beyond tcpip.Endpoint.
var (
	_ Urgent     = (*tcpx.Endpoint)(nil)
	_ TCPOptions = (*tcpx.Endpoint)(nil)
	_ RecvLowat  = (*tcpx.Endpoint)(nil)
	_ FastOpener = (*tcpx.Endpoint)(nil)
)

// TCPX returns the kind of target that runs Plumbline's own TCP.
func TCPX() Kind {
	k := Netstack("tcpx", "Plumbline's TCP", Capabilities{ECN: true, AccECN: true, FastOpen: true}, tcpx.NewProtocol)
	k.Open = func(cfg Config) (Target, error) {
		n, err := openNetstack(cfg, tcpx.NewProtocol)
		if err != nil {
			return nil, err
		}
		n.rebuild, n.reconfigure = tcpxWith, tcpxConfigure
		return n, nil
	}
	return k
}

// tcpxSettings are the settings that tcpx takes when it is made, by the name of
// the sysctl.
var tcpxSettings = map[string]func(value int64) tcpx.Option{
	"net.ipv4.tcp_timestamps": func(v int64) tcpx.Option { return tcpx.WithTimestamps(v != 0) },
	"net.ipv4.tcp_ecn": func(v int64) tcpx.Option {
		return tcpx.WithECN(ecnModes[min(max(v, 0), int64(len(ecnModes)-1))])
	},
	"net.ipv4.tcp_window_scaling": func(v int64) tcpx.Option { return tcpx.WithWindowScaling(v != 0) },
	"net.ipv4.tcp_max_syn_backlog": func(v int64) tcpx.Option {
		return tcpx.WithSYNQueue(int(v))
	},
	"net.ipv4.tcp_delack_ms": func(v int64) tcpx.Option {
		return tcpx.WithDelayedACK(min(time.Duration(v)*time.Millisecond, 499*time.Millisecond))
	},
	"net.ipv4.tcp_mtu_probing": func(v int64) tcpx.Option {
		return tcpx.WithPMTU(pmtu.Config{Mode: pmtu.Mode(min(v, int64(pmtu.Always)))}, pmtu.Options{})
	},
	"net.ipv4.tcp_rto_initial_ms": func(v int64) tcpx.Option {
		return tcpx.WithInitialRTO(max(1, time.Duration(v)) * time.Millisecond)
	},
}

// ecnModes are the modes by the numbers of net.ipv4.tcp_ecn. Linux has modes, 1
// and 2, that agree to classic ECN only; tcpx agrees to what the peer asks for.
var ecnModes = [...]tcpx.ECNMode{tcpx.ECNOff, tcpx.ECNOn, tcpx.ECNPassive, tcpx.ECNAccurate, tcpx.ECNOn, tcpx.ECNPassive}

// tcpxWith returns a tcpx with settings, and whether it has the last of them,
// name, at all.
func tcpxWith(settings map[string]string, name string) (stack.TransportProtocolFactory, bool) {
	var opts []tcpx.Option
	for n := range settings {
		opt, ok := tcpxOption(settings, n)
		if !ok {
			return nil, false
		}
		opts = append(opts, opt)
	}
	return tcpx.New(opts...), true
}

// tcpxOption turns one of the settings into an option, and reports whether there
// is one for it.
func tcpxOption(settings map[string]string, name string) (tcpx.Option, bool) {
	if name == fastOpenSysctl || name == fastOpenKeySysctl {
		return fastOpenOption(settings[fastOpenSysctl], settings[fastOpenKeySysctl])
	}
	v, ok := number(settings[name])
	if tcpxSettings[name] == nil || !ok {
		return nil, false
	}
	return tcpxSettings[name](v), true
}

// tcpxConfigure changes a setting of a tcpx in use, and reports whether it has it.
func tcpxConfigure(n *netstack, name, value string) (bool, error) {
	settings := maps.Clone(n.builtWith)
	settings[name] = value
	opt, ok := tcpxOption(settings, name)
	if !ok {
		return false, nil
	}
	if err := tcpx.Configure(n.stack, opt); err != nil {
		return true, &UnsupportedError{What: "sysctl " + name + "=" + value, Why: "in use"}
	}
	n.builtWith = settings
	return true, nil
}

// tcpxInfo translates what tcpx tells.
func tcpxInfo(i tcpx.Info) Info {
	micros := func(d time.Duration) int64 { return int64(d / time.Microsecond) }
	millis := func(d time.Duration) int64 { return int64(d / time.Millisecond) }
	return Info{
		"state":                     int64(i.State),
		"ca_state":                  int64(i.CAState),
		"retransmits":               int64(i.Retransmits),
		"probes":                    int64(i.Probes),
		"backoff":                   int64(i.Backoff),
		"options":                   infoOptions(i),
		"snd_wscale":                int64(i.SndWScale),
		"rcv_wscale":                int64(i.RcvWScale),
		"delivery_rate_app_limited": flag(i.DeliveryRateAppLimited),
		"rto":                       micros(i.RTO),
		"ato":                       micros(i.ATO),
		"snd_mss":                   int64(i.SndMSS),
		"rcv_mss":                   int64(i.RcvMSS),
		"advmss":                    int64(i.AdvMSS),
		"unacked":                   int64(i.Unacked),
		"sacked":                    int64(i.Sacked),
		"lost":                      int64(i.Lost),
		"retrans":                   int64(i.Retrans),
		"last_data_sent":            millis(i.LastDataSent),
		"last_data_recv":            millis(i.LastDataRecv),
		"last_ack_recv":             millis(i.LastAckRecv),
		"pmtu":                      int64(i.PMTU),
		"rcv_ssthresh":              int64(i.RcvSsthresh),
		"rtt":                       micros(i.RTT),
		"rttvar":                    micros(i.RTTVar),
		"min_rtt":                   micros(i.MinRTT),
		"snd_ssthresh":              int64(i.SndSsthresh),
		"snd_cwnd":                  int64(i.SndCwnd),
		"reordering":                int64(i.Reordering),
		"reord_seen":                int64(i.ReordSeen),
		"rcv_rtt":                   micros(i.RcvRTT),
		"rcv_space":                 int64(i.RcvSpace),
		"rcv_wnd":                   int64(i.RcvWnd),
		"snd_wnd":                   int64(i.SndWnd),
		"total_retrans":             int64(i.TotalRetrans),
		"pacing_rate":               int64(i.PacingRate),
		"max_pacing_rate":           int64(i.MaxPacingRate),
		"delivery_rate":             int64(i.DeliveryRate),
		"bytes_acked":               int64(i.BytesAcked),
		"bytes_received":            int64(i.BytesReceived),
		"bytes_sent":                int64(i.BytesSent),
		"bytes_retrans":             int64(i.BytesRetrans),
		"segs_out":                  int64(i.SegsOut),
		"segs_in":                   int64(i.SegsIn),
		"data_segs_out":             int64(i.DataSegsOut),
		"data_segs_in":              int64(i.DataSegsIn),
		"busy_time":                 micros(i.BusyTime),
		"rwnd_limited":              micros(i.RwndLimited),
		"sndbuf_limited":            micros(i.SndbufLimited),
		"notsent_bytes":             int64(i.NotsentBytes),
		"delivered":                 int64(i.Delivered),
		"delivered_ce":              int64(i.DeliveredCE),
		"dsack_dups":                int64(i.DSACKDups),
		"rcv_ooopack":               int64(i.RcvOOOPack),
	}
}

// infoOptions returns what was negotiated, in the bits of Linux's
// tcpi_options.
func infoOptions(i tcpx.Info) int64 {
	const timestamps, sack, wscale, ecn = 1, 2, 4, 8
	const synData, child = 32, 128
	return flag(i.OptSynData)*synData | flag(i.OptFastOpenChild)*child | flag(i.OptECN)*ecn | flag(i.OptTimestamps)*timestamps | flag(i.OptSACK)*sack | flag(i.OptWindowScale)*wscale
}

// flag is 1 if b.
func flag(b bool) int64 {
	if b {
		return 1
	}
	return 0
}
