package mutants

import (
	"encoding/binary"
	"time"

	"github.com/plumbline/plumbline/conformance/internal/wire"
)

// The scenarios of most mutants. An upload has losses, so that it retransmits.
var (
	upload   = scenario{sends: 100_000}
	lossyUp  = scenario{sends: 200_000, drive: lose(between(20, 20))}
	download = scenario{receives: 100_000}
	lossyDn  = scenario{receives: 200_000, drive: loseArriving(between(20, 20))}
)

// sending arms a fault of what the stack sends.
func sending(f func(l *layer, p *wire.Packet)) func(m, peer *host) {
	return func(m, _ *host) {
		m.layer.onOut(func(p *wire.Packet) bool {
			f(m.layer, p)
			return true
		})
	}
}

// hasData and isPureAck tell segments apart.
func hasData(p *wire.Packet) bool { return len(p.TCP.Payload) > 0 }

func isPureAck(p *wire.Packet) bool { return p.TCP.Flags == wire.ACK && !hasData(p) }

func isSYN(p *wire.Packet) bool { return p.TCP.Flags&wire.SYN != 0 }

// nth returns a function that is true for the n-th segment that it is asked
// about.
func nth(n int) func() bool {
	return func() bool {
		n--
		return n == 0
	}
}

// hard are mutants that break rules of the hard tier.
var hard = []Mutant{
	{
		Name: "wrong-checksum", Title: "a wrong checksum on a data segment", Rule: "checksum", scenario: upload,
		fault: func(m, peer *host) {
			tenth := nth(10)
			sending(func(l *layer, p *wire.Packet) { l.spoil.Checksum = hasData(p) && tenth() })(m, peer)
		},
	},
	{
		Name: "checksum-without-pseudo-header", Title: "a checksum without the pseudo-header", Rule: "checksum", scenario: upload,
		fault: sending(func(l *layer, p *wire.Packet) {
			if !isSYN(p) {
				l.raw = func(b []byte) {
					binary.BigEndian.PutUint16(b[36:], 0)
					binary.BigEndian.PutUint16(b[36:], wire.Checksum(b[20:], 0))
				}
			}
		}),
	},
	{
		Name: "wrong-ip-checksum", Title: "an IPv4 header checksum that is not updated", Rule: "ip-checksum", scenario: upload,
		fault: sending(func(l *layer, p *wire.Packet) {
			if isPureAck(p) {
				l.raw = func(b []byte) { b[8]-- }
			}
		}),
	},
	{
		Name: "malformed-timestamps", Title: "a timestamps option of 8 octets", Rule: "option-format", scenario: upload,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if at, n := find(p.TCP.Options, 8); n == 10 && hasData(p) {
				p.TCP.Options[at+1] = 8
				p.TCP.Options[at+8], p.TCP.Options[at+9] = 1, 1
			}
		}),
	},
	{
		Name: "option-past-header", Title: "an option that runs past the header", Rule: "option-format", scenario: upload,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if isPureAck(p) {
				add(p, 253, 9, 0, 0)
			}
		}),
	},
	{
		Name: "reserved-bits", Title: "reserved bits that are not zero", Rule: "reserved", scenario: upload,
		fault: sending(func(_ *layer, p *wire.Packet) { p.TCP.Reserved = 4 }),
	},
	{
		Name: "data-without-ack", Title: "data without the ACK flag", Rule: "ack-flag", scenario: upload,
		fault: func(m, peer *host) {
			third := nth(3)
			sending(func(_ *layer, p *wire.Packet) {
				if hasData(p) && third() {
					p.TCP.Flags &^= wire.ACK
				}
			})(m, peer)
		},
	},
	{
		Name: "mss-in-every-segment", Title: "an MSS option in segments without SYN", Rule: "syn-options", scenario: upload,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if isPureAck(p) {
				add(p, 2, 4, 5, 180)
			}
		}),
	},
	{
		Name: "window-scale-not-offered", Title: "a window scale in the SYN-ACK that the SYN had not", Rule: "not-offered",
		scenario: scenario{passive: true, receives: 20_000, noOptions: true},
		fault: sending(func(_ *layer, p *wire.Packet) {
			if isSYN(p) {
				add(p, 3, 3, 2)
			}
		}),
	},
	{
		Name: "timestamps-not-offered", Title: "timestamps in the SYN-ACK that the SYN had not", Rule: "not-offered",
		scenario: scenario{passive: true, receives: 20_000, noOptions: true},
		fault: sending(func(_ *layer, p *wire.Packet) {
			if isSYN(p) {
				add(p, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0)
			}
		}),
	},
	{
		Name: "beyond-the-window", Title: "data beyond the right edge of the window", Rule: "window",
		scenario: scenario{sends: 3_000_000, peerDeaf: true},
		fault: func(m, _ *host) {
			m.layer.onIn(func(p *wire.Packet) bool {
				if !isSYN(p) {
					p.TCP.Window += 50
				}
				return true
			})
		},
	},
	{
		Name: "ignores-zero-windows", Title: "a closed window that is taken for an old one", Rule: "window",
		scenario: scenario{sends: 3_000_000, peerDeaf: true},
		fault: func(m, _ *host) {
			last := uint16(0)
			m.layer.onIn(func(p *wire.Packet) bool {
				if p.TCP.Window == 0 {
					p.TCP.Window = last
				}
				last = p.TCP.Window
				return true
			})
		},
	},
	{
		Name: "scales-the-window-of-syns", Title: "window scaling is applied to the window of the SYN-ACK", Rule: "window",
		scenario: scenario{sends: 40_000},
		fault: func(m, peer *host) {
			peer.layer.onOut(func(p *wire.Packet) bool {
				if isSYN(p) {
					p.TCP.Window = 2000
				}
				return true
			})
			m.layer.onIn(func(p *wire.Packet) bool {
				if isSYN(p) {
					p.TCP.Window = 60_000
				}
				return true
			})
		},
	},
	{
		Name: "retransmits-zeroes", Title: "a retransmission from a buffer that was freed", Rule: "same-bytes", scenario: lossyUp,
		fault: sending(func(l *layer, p *wire.Packet) {
			if l.again(p) {
				clear(p.TCP.Payload)
			}
		}),
	},
	{
		Name: "acknowledges-too-much", Title: "an acknowledgment number that is one too high", Rule: "ack-unsent", scenario: download,
		fault: func(m, peer *host) {
			tenth := nth(10)
			sending(func(_ *layer, p *wire.Packet) {
				if isPureAck(p) && tenth() {
					p.TCP.Ack++
				}
			})(m, peer)
		},
	},
	{
		Name: "acknowledges-lost-data", Title: "an acknowledgment of what has been lost", Rule: "ack-unsent", scenario: lossyDn,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if v, ok := option(p, 5); ok {
				p.TCP.Ack = binary.BigEndian.Uint32(v[4:]) // as if the gap were filled
			}
		}),
	},
	{
		Name: "syn-ack-acknowledges-nothing", Title: "a SYN-ACK that acknowledges the initial sequence number", Rule: "ack-unsent",
		scenario: scenario{passive: true, sends: 1000, last: 10 * time.Second},
		fault: sending(func(_ *layer, p *wire.Packet) {
			if isSYN(p) {
				p.TCP.Ack--
			}
		}),
	},
	{
		Name: "acknowledges-backwards", Title: "an acknowledgment number that goes back", Rule: "ack-back", scenario: download,
		fault: func(m, peer *host) {
			tenth := nth(10)
			sending(func(_ *layer, p *wire.Packet) {
				if isPureAck(p) && tenth() {
					p.TCP.Ack, p.TCP.Window = p.TCP.Ack-5000, p.TCP.Window+3
				}
			})(m, peer)
		},
	},
	{
		Name: "sack-of-nothing", Title: "a SACK block of what was not sent", Rule: "sack-unsent", scenario: lossyDn,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if v, ok := option(p, 5); ok {
				binary.BigEndian.PutUint32(v[4:], binary.BigEndian.Uint32(v[4:])+1_000_000)
			}
		}),
	},
	{
		Name: "sack-edges-swapped", Title: "a SACK block whose edges are swapped", Rule: "sack-edges", scenario: lossyDn,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if v, ok := option(p, 5); ok {
				var left [4]byte
				copy(left[:], v)
				copy(v, v[4:8])
				copy(v[4:], left[:])
			}
		}),
	},
	{
		Name: "sack-not-permitted", Title: "SACK blocks to a peer that has not permitted them", Rule: "sack-permitted",
		scenario: scenario{receives: 200_000, noOptions: true, drive: loseArriving(between(20, 20))},
		fault: func(m, _ *host) {
			var high uint32
			m.layer.onIn(func(p *wire.Packet) bool {
				high = p.TCP.Seq + p.TCP.Len()
				return true
			})
			m.layer.onOut(func(p *wire.Packet) bool {
				if isPureAck(p) && int32(high-p.TCP.Ack) > 1460 {
					addSACK(p, p.TCP.Ack+1460, high)
				}
				return true
			})
		},
	},
	{
		Name: "rst-of-nowhere", Title: "a refusal with a sequence number of its own", Rule: "rst",
		scenario: scenario{last: 10 * time.Second, drive: knock},
		fault: sending(func(_ *layer, p *wire.Packet) {
			if p.TCP.Flags&wire.RST != 0 {
				p.TCP.Seq += 12345
			}
		}),
	},
	{
		Name: "rst-acknowledges-wrong", Title: "a refusal that does not count the SYN", Rule: "rst",
		scenario: scenario{last: 10 * time.Second, drive: knock},
		fault: sending(func(_ *layer, p *wire.Packet) {
			if p.TCP.Flags&wire.RST != 0 {
				p.TCP.Ack--
			}
		}),
	},
	{
		Name: "timestamps-go-back", Title: "a timestamp clock that jumps back", Rule: "ts-monotonic", scenario: upload,
		fault: func(m, peer *host) {
			n := 0
			sending(func(_ *layer, p *wire.Packet) {
				if v, ok := option(p, 8); ok {
					if n++; n > 20 {
						binary.BigEndian.PutUint32(v, binary.BigEndian.Uint32(v)-5000)
					}
				}
			})(m, peer)
		},
	},
	{
		Name: "echoes-of-nothing", Title: "a timestamp echo that was never sent", Rule: "ts-echo", scenario: download,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if v, ok := option(p, 8); ok && isPureAck(p) {
				binary.BigEndian.PutUint32(v[4:], binary.BigEndian.Uint32(v[4:])+100_000)
			}
		}),
	},
	{
		Name: "forgets-timestamps", Title: "pure acknowledgments without the timestamps that were negotiated", Rule: "ts-missing", scenario: download,
		fault: sending(func(_ *layer, p *wire.Packet) {
			if isPureAck(p) {
				strip(p, 8)
			}
		}),
	},
	{
		Name: "timestamps-not-agreed", Title: "timestamps that the peer has declined", Rule: "ts-missing",
		scenario: scenario{sends: 50_000, noOptions: true},
		fault: sending(func(_ *layer, p *wire.Packet) {
			if !isSYN(p) {
				add(p, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0)
			}
		}),
	},
	{
		Name: "fin-too-early", Title: "a FIN before the end of the data", Rule: "fin", scenario: upload,
		fault: sending(func(l *layer, p *wire.Packet) {
			if p.TCP.Flags&wire.FIN != 0 {
				data := clone(p)
				data.TCP.Flags &^= wire.FIN
				l.send(data)
				p.TCP.Seq, p.TCP.Payload = p.TCP.Seq+uint32(len(p.TCP.Payload))-10, nil
			}
		}),
	},
	{
		Name: "data-behind-fin", Title: "data behind a FIN", Rule: "fin", scenario: scenario{sends: 50_000, last: 5 * time.Second},
		fault: func(m, _ *host) {
			m.layer.onOut(func(p *wire.Packet) bool {
				if p.TCP.Flags&wire.FIN != 0 {
					more := clone(p)
					more.TCP.Seq += p.TCP.Len()
					more.TCP.Flags &^= wire.FIN
					more.TCP.Payload = []byte("one more thing")
					m.layer.later(time.Millisecond, more, nil)
				}
				return true
			})
		},
	},
	{
		Name: "fin-moves", Title: "a FIN that is sent again at another place", Rule: "fin",
		scenario: scenario{sends: 50_000, last: 20 * time.Second, drive: unplug(270 * time.Millisecond)},
		fault: func(m, _ *host) {
			seen := false
			m.layer.onOut(func(p *wire.Packet) bool {
				if p.TCP.Flags&wire.FIN != 0 {
					if seen {
						p.TCP.Payload = append(p.TCP.Payload, 'x')
					}
					seen = true
				}
				return true
			})
		},
	},
	{
		Name: "syn-with-rst", Title: "SYN and RST in one segment", Rule: "state", scenario: scenario{last: 10 * time.Second, drive: knock},
		fault: sending(func(_ *layer, p *wire.Packet) {
			if p.TCP.Flags&wire.RST != 0 {
				p.TCP.Flags |= wire.SYN
			}
		}),
	},
	{
		Name: "data-before-handshake", Title: "data before the SYN was answered", Rule: "state", scenario: upload,
		fault: func(m, _ *host) {
			m.layer.onOut(func(p *wire.Packet) bool {
				if p.TCP.Flags == wire.SYN {
					data := clone(p)
					data.TCP.Flags, data.TCP.Options, data.TCP.Seq = wire.ACK|wire.PSH, nil, p.TCP.Seq+1
					data.TCP.Payload = content[:100]
					m.layer.later(time.Millisecond, data, nil)
				}
				return true
			})
		},
	},
	{
		Name: "ack-before-handshake", Title: "an acknowledgment out of SYN-SENT", Rule: "state", scenario: upload,
		fault: func(m, _ *host) {
			m.layer.onOut(func(p *wire.Packet) bool {
				if p.TCP.Flags == wire.SYN {
					ack := clone(p)
					ack.TCP.Flags, ack.TCP.Options, ack.TCP.Seq = wire.ACK, nil, p.TCP.Seq+1
					m.layer.later(time.Millisecond, ack, nil)
				}
				return true
			})
		},
	},
	{
		Name: "skips-an-octet", Title: "a sequence number that skips an octet", Rule: "skipped", scenario: upload,
		fault: func(m, peer *host) {
			n := 0
			sending(func(_ *layer, p *wire.Packet) {
				if hasData(p) {
					n++
				}
				if n > 20 {
					p.TCP.Seq++
				}
			})(m, peer)
		},
	},
	{
		Name: "ignores-mss", Title: "segments longer than the peer's MSS", Rule: "mss", scenario: upload,
		fault: func(m, peer *host) {
			peer.layer.onOut(func(p *wire.Packet) bool { return changeMSS(p, -924) })
			m.layer.onIn(func(p *wire.Packet) bool { return changeMSS(p, 924) })
		},
	},
	{
		Name: "no-default-mss", Title: "1460 octets to a peer that announced no MSS", Rule: "mss", scenario: upload,
		fault: func(m, peer *host) {
			peer.layer.onOut(func(p *wire.Packet) bool {
				if isSYN(p) {
					strip(p, 2)
				}
				return true
			})
			m.layer.onIn(func(p *wire.Packet) bool {
				if isSYN(p) {
					add(p, 2, 4, 5, 180)
				}
				return true
			})
		},
	},
}

// knock makes the peer connect to a port of the mutant where nobody listens.
func knock(r *rig, _, _ *app) {
	r.clock.AfterFunc(time.Second, func() {
		ep, err := r.hosts[1].endpoint()
		r.fail("socket", err)
		r.dial(ep, r.hosts[0], 9)
		r.apps = append(r.apps, &app{ep: ep})
	})
}
