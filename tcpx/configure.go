package tcpx

import (
	"errors"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Configure applies options to a stack's TCP that is in use. Sockets and connections that exist keep what they started with, but for what a listener or a client looks up for each
// connection, as the configuration of Fast Open. The memory budget and WithPMTU belong to the making of a stack: to change these is an error, as is a stack whose TCP is not
// Plumbline's, and nothing is applied then. It is safe for concurrent use.
func Configure(s *stack.Stack, opts ...Option) error {
	p := protocolOf(s)
	if p == nil {
		return errors.New("tcpx: the stack has another TCP")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	next := p.opts
	for _, opt := range opts {
		opt(&next)
	}
	if next.pmtu != p.opts.pmtu || next.memoryBudget != p.opts.memoryBudget {
		return errors.New("tcpx: path MTU discovery and the memory budget cannot be changed in use")
	}
	p.opts = next
	p.storeConfig()
	return nil
}
