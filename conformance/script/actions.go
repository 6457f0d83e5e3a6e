package script

// Unsupported returns "": every runner can wait.
func (*NoPacket) Unsupported() string { return "" }

// Unsupported returns the reason of the first form that has one.
func (a *Alternatives) Unsupported() string {
	for _, p := range a.Packets {
		if p.Reason != "" {
			return p.Reason
		}
	}
	return ""
}

// Unsupported returns "": what a command needs, only the target knows.
func (*Command) Unsupported() string { return "" }

// Unsupported returns Reason.
func (c *Code) Unsupported() string { return c.Reason }

// Unsupported returns Reason.
func (s *Syscall) Unsupported() string { return s.Reason }

// Unsupported returns Reason.
func (p *Packet) Unsupported() string { return p.Reason }

func (*NoPacket) action()     {}
func (*Alternatives) action() {}
func (*Command) action()      {}
func (*Code) action()         {}
func (*Syscall) action()      {}
func (*Packet) action()       {}
