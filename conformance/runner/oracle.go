package runner

import (
	"fmt"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/script"
)

// judge shows the packets of the run to the oracle and keeps what it holds
// against the target. What breaks a rule of the hard tier fails a run that went
// as the script says; what breaks one of the soft tier is a remark. What the
// script sent counts for nothing: it may be wrong on purpose.
func (r *run) judge(err error) error {
	if !r.opt.Oracle {
		return err
	}
	c := oracle.New(oracle.Options{NearAll: true, Complete: true, Wire: true})
	var packets []*Entry
	for i := range r.result.Trace {
		if e := &r.result.Trace[i]; e.Kind == Inbound || e.Kind == Outbound {
			packets = append(packets, e)
			c.IP(e.At, e.Data, len(e.Data))
		}
	}
	for _, f := range c.Report().Findings {
		if from := f.From.Addr(); from != r.settings.addrs.Local4 && from != r.settings.addrs.Local6 {
			continue
		}
		r.result.Findings = append(r.result.Findings, f)
		if err != nil || f.Tier != oracle.Hard {
			continue
		}
		shown := packets[f.Packet-1]
		err = &Failure{
			Pos:     script.Position{File: r.script.Name, Line: max(shown.Line, 1), Column: 1},
			At:      shown.At,
			Message: fmt.Sprintf("the oracle says that it breaks rule %s (%s): %s", f.Rule, f.Section, f.Text),
			Actual:  shown.Text,
		}
	}
	return err
}
