package testbed

import (
	"fmt"
	"slices"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"github.com/plumbline/plumbline/congestion"
	_ "github.com/plumbline/plumbline/congestion/bbr" // algorithms that the testbed offers
	_ "github.com/plumbline/plumbline/congestion/bbr1"
	_ "github.com/plumbline/plumbline/congestion/cubic"
	_ "github.com/plumbline/plumbline/congestion/reno"
	"github.com/plumbline/plumbline/congestion/testbed/internal/kernel"
	"github.com/plumbline/plumbline/tcpx"
)

// Kind is a kind of TCP that flows can use.
type Kind struct {
	// Name is how scenarios and flags call it, and About one line for people.
	Name, About string
	// Algorithms returns the names of its congestion control algorithms.
	Algorithms func() []string

	// protocol makes its TCP with buffers of that size in bytes.
	protocol func(buffer int) stack.TransportProtocolFactory
	// headers is what IPv4 and TCP take of a full packet, in bytes.
	headers int
	// kernel tells that it is not a stack of this process but the kernel's, which runs in real time. It has no protocol.
	kernel bool
	// goroutines tells that it hands segments to goroutines of its own, which have to come to rest before time goes on.
	goroutines bool
}

// Sizes of headers in bytes: IPv4 and TCP without options, and the timestamps option with its padding.
const (
	plainHeaders     = 40
	timestampsOption = 12
)

// Kinds returns the kinds of TCP that there are.
func Kinds() []Kind {
	return []Kind{
		{
			Name: "tcpx", About: "Plumbline's TCP",
			Algorithms: congestion.Names, headers: plainHeaders + timestampsOption,
			protocol: func(buffer int) stack.TransportProtocolFactory { return tcpx.New(unlimited(buffer)...) },
		},
		{
			Name: "tcpx-paced", About: "Plumbline's TCP, which paces Reno and CUBIC as well",
			Algorithms: congestion.Names, headers: plainHeaders + timestampsOption,
			protocol: func(buffer int) stack.TransportProtocolFactory {
				return tcpx.New(append(unlimited(buffer), tcpx.WithPacing(true))...)
			},
		},
		{
			// PAWS discards what arrives later than a retransmission that was sent after it (RFC 7323 §5.3): beside tcpx this shows what that costs.
			Name: "tcpx-no-timestamps", About: "Plumbline's TCP without the timestamps option, and so without PAWS",
			Algorithms: congestion.Names, headers: plainHeaders,
			protocol: func(buffer int) stack.TransportProtocolFactory {
				return tcpx.New(append(unlimited(buffer), tcpx.WithTimestamps(false))...)
			},
		},
		{
			Name: "gvisor", About: "the TCP that comes with gVisor's netstack",
			Algorithms: func() []string { return []string{"cubic", "reno"} },
			protocol:   stockProtocol,
			headers:    plainHeaders + timestampsOption,
			goroutines: true,
		},
		{
			Name: "linux", About: "the TCP of this machine's kernel, in real time; takes root",
			Algorithms: kernel.Algorithms, headers: plainHeaders + timestampsOption,
			kernel: true,
		},
	}
}

// unlimited are the options of a tcpx whose buffers and memory limit nothing.
func unlimited(buffer int) []tcpx.Option {
	return []tcpx.Option{tcpx.WithMemoryBudget(0), tcpx.WithReceiveBuffer(4096, buffer, buffer), tcpx.WithSendBuffer(4096, buffer, buffer)}
}

// KindOf returns the kind of that name.
func KindOf(name string) (Kind, error) {
	var names []string
	for _, k := range Kinds() {
		if k.Name == name {
			return k, nil
		}
		names = append(names, k.Name)
	}
	return Kind{}, fmt.Errorf("there is no stack %q; there are %s", name, strings.Join(names, ", "))
}

func (k *Kind) has(algorithm string) bool { return slices.Contains(k.Algorithms(), algorithm) }

// stockProtocol makes gVisor's TCP with SACK, which it has off by default, and with buffers that do not limit it.
func stockProtocol(buffer int) stack.TransportProtocolFactory {
	return func(s *stack.Stack) stack.TransportProtocol {
		p := tcp.NewProtocol(s)
		sack := tcpip.TCPSACKEnabled(true)
		send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: buffer, Max: buffer}
		receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: buffer, Max: buffer}
		for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &send, &receive} {
			if err := p.SetOption(opt); err != nil {
				panic(fmt.Sprintf("gVisor's TCP refuses %T: %v", opt, err))
			}
		}
		return p
	}
}
