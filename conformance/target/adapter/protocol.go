package adapter

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode"

	"github.com/plumbline/plumbline/conformance/target"
)

// Version is the version of the protocol. It grows when something is added that
// older processes would misunderstand.
const Version = 1

// The limits of the protocol.
const (
	// maxLine is the longest line, in bytes.
	maxLine = 32 << 20
	// maxPacket is the longest packet, in octets.
	maxPacket = 1 << 16
	// maxText is the longest name or message that is taken over, in bytes.
	maxText = 300
)

// request is one line to the process.
type request struct {
	Op string `json:"op"`
	// Protocol is for "hello".
	Protocol int `json:"protocol,omitempty"`
	// Open is for "open".
	Open *openArgs `json:"config,omitempty"`
	// Name and Value are for "configure".
	Name  string `json:"name,omitempty"`
	Value string `json:"value,omitempty"`
	// ID, Call and Args are for "call".
	ID   int64     `json:"id,omitempty"`
	Call string    `json:"call,omitempty"`
	Args *callArgs `json:"args,omitempty"`
	// Packet is for "inject".
	Packet octets `json:"packet,omitempty"`
	// For is for "run": how long, in nanoseconds.
	For int64 `json:"for_ns,omitempty"`
	// FD is for "info".
	FD target.FD `json:"fd,omitempty"`
}

// openArgs is what an instance is opened with.
type openArgs struct {
	Seed    uint64     `json:"seed"`
	MTU     int        `json:"mtu"`
	Local4  netip.Addr `json:"local4"`
	Local6  netip.Addr `json:"local6"`
	Remote4 netip.Addr `json:"remote4"`
	Remote6 netip.Addr `json:"remote6"`
}

// openArgsOf converts a configuration, whose defaults are filled in.
func openArgsOf(c target.Config) *openArgs {
	if c.MTU == 0 {
		c.MTU = 1500
	}
	if c.Addrs == (target.Addrs{}) {
		c.Addrs = target.DefaultAddrs()
	}
	return &openArgs{c.Seed, c.MTU, c.Addrs.Local4, c.Addrs.Local6, c.Addrs.Remote4, c.Addrs.Remote6}
}

// config converts back.
func (o openArgs) config() target.Config {
	return target.Config{Seed: o.Seed, MTU: o.MTU, Addrs: target.Addrs{Local4: o.Local4, Local6: o.Local6, Remote4: o.Remote4, Remote6: o.Remote6}}
}

// reply is one line from the process.
type reply struct {
	// Hello answers "hello".
	Hello *hello `json:"hello,omitempty"`
	// Now is the time since the instance was opened, in nanoseconds.
	Now int64 `json:"now_ns,omitempty"`
	// Packets were sent since the reply before, in order.
	Packets []packet `json:"packets,omitempty"`
	// Done are the calls that have ended since the reply before.
	Done []result `json:"done,omitempty"`
	// Info answers "info".
	Info map[string]int64 `json:"info,omitempty"`
	// Unsupported says what the stack cannot do.
	Unsupported string `json:"unsupported,omitempty"`
	// Error says what went wrong.
	Error string `json:"error,omitempty"`
}

// hello is what a process tells of its stack.
type hello struct {
	Protocol    int    `json:"protocol"`
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	RealTime    bool   `json:"real_time,omitempty"`
	FastOpen    bool   `json:"fast_open,omitempty"`
	ECN         bool   `json:"ecn,omitempty"`
	AccECN      bool   `json:"acc_ecn,omitempty"`
	MD5         bool   `json:"md5,omitempty"`
}

// capabilities converts what a process tells.
func (h *hello) capabilities() target.Capabilities {
	return target.Capabilities{RealTime: h.RealTime, FastOpen: h.FastOpen, ECN: h.ECN, AccECN: h.AccECN, MD5: h.MD5}
}

// helloOf converts back.
func helloOf(k target.Kind) *hello {
	c := k.Capabilities
	return &hello{
		Protocol: Version, Name: k.Name, Description: k.Description,
		RealTime: c.RealTime, FastOpen: c.FastOpen, ECN: c.ECN, AccECN: c.AccECN, MD5: c.MD5,
	}
}

// packet is a packet that was sent.
type packet struct {
	// At is when it left, on the clock of now_ns.
	At   int64  `json:"at_ns"`
	Data octets `json:"data"`
}

// result is the outcome of a call.
type result struct {
	ID     int64          `json:"id"`
	At     int64          `json:"at_ns,omitempty"`
	Value  int64          `json:"value"`
	Errno  target.Errno   `json:"errno,omitempty"`
	Data   octets         `json:"data,omitempty"`
	Addr   netip.AddrPort `json:"addr,omitzero"`
	Option *optionValue   `json:"option,omitempty"`
	Ready  []ready        `json:"ready,omitempty"`
}

// resultOf converts a result of a target.
func resultOf(id int64, r target.Result) result {
	out := result{ID: id, At: int64(r.At), Value: r.Value, Errno: r.Errno, Data: r.Data, Addr: r.Addr, Ready: readyOf(r.Ready)}
	if r.Option != nil {
		out.Option = &optionValue{r.Option}
	}
	return out
}

// result converts back.
func (r result) result() target.Result {
	out := target.Result{At: time.Duration(r.At), Value: r.Value, Errno: r.Errno, Data: r.Data, Addr: r.Addr}
	if r.Errno != "" {
		out.Value = -1
	}
	if r.Option != nil {
		out.Option = r.Option.v
	}
	for _, x := range r.Ready {
		out.Ready = append(out.Ready, target.Ready(x))
	}
	return out
}

// ready is a descriptor with events of poll(2).
type ready struct {
	FD     target.FD `json:"fd"`
	Events uint32    `json:"events"`
	Data   int64     `json:"data,omitempty"`
}

func readyOf(list []target.Ready) []ready {
	var out []ready
	for _, x := range list {
		out = append(out, ready(x))
	}
	return out
}

// octets are written in hexadecimal.
type octets []byte

// MarshalText implements encoding.TextMarshaler.
func (o octets) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, o), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (o *octets) UnmarshalText(text []byte) error {
	b, err := hex.AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("octets are in hexadecimal: %w", err)
	}
	*o = b
	return nil
}

// optionValue is the value of a socket option: an int, a string, a
// target.Linger, a time.Duration or a target.Errno.
type optionValue struct{ v any }

// The forms of values that are no numbers or strings.
type (
	lingerValue struct {
		On      bool `json:"on"`
		Seconds int  `json:"seconds"`
	}
	structValue struct {
		Linger  *lingerValue `json:"linger,omitempty"`
		Timeout *int64       `json:"timeout_us,omitempty"`
		// Errno is that of SO_ERROR, "" if there is none.
		Errno *target.Errno `json:"errno,omitempty"`
	}
)

// MarshalJSON implements json.Marshaler.
func (o optionValue) MarshalJSON() ([]byte, error) {
	switch v := o.v.(type) {
	case int, string:
		return json.Marshal(v)
	case target.Linger:
		return json.Marshal(structValue{Linger: (*lingerValue)(&v)})
	case time.Duration:
		us := v.Microseconds()
		return json.Marshal(structValue{Timeout: &us})
	case target.Errno:
		return json.Marshal(structValue{Errno: &v})
	}
	return nil, fmt.Errorf("the value of an option is a %T", o.v)
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *optionValue) UnmarshalJSON(b []byte) error {
	var i int
	var s string
	var x structValue
	switch {
	case json.Unmarshal(b, &i) == nil:
		o.v = i
	case json.Unmarshal(b, &s) == nil:
		o.v = s
	case json.Unmarshal(b, &x) == nil && x.Linger != nil:
		o.v = target.Linger(*x.Linger)
	case json.Unmarshal(b, &x) == nil && x.Timeout != nil:
		o.v = time.Duration(*x.Timeout) * time.Microsecond
	case json.Unmarshal(b, &x) == nil && x.Errno != nil:
		o.v = target.Errno(clean(string(*x.Errno)))
	default:
		return errors.New("the value of an option is a number, a string, or an object with linger, timeout_us or errno")
	}
	return nil
}

// clean makes text of the process fit for a terminal and a line.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s[:min(len(s), maxText)])
	return strings.TrimSpace(s)
}
