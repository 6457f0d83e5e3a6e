package runner

import (
	"fmt"

	"github.com/plumbline/plumbline/conformance/internal/wire"
	"github.com/plumbline/plumbline/conformance/script"
)

// trace collects what happens during a run.
type trace struct {
	list []*Entry
}

// add appends an entry, whose text may be set later.
func (t *trace) add(e *Entry) { t.list = append(t.list, e) }

// entries returns the entries. Packets that no event has taken are rendered
// now, as well as can be.
func (t *trace) entries(r *run) []Entry {
	for _, o := range r.out {
		if o.entry.Text == "" {
			o.entry.Text = r.render(o)
		}
	}
	out := make([]Entry, len(t.list))
	for i, e := range t.list {
		out[i] = *e
	}
	return out
}

// log adds an entry for the event under way.
func (r *run) log(kind EntryKind, data []byte, text string) {
	e := &Entry{Kind: kind, Text: text, Data: data}
	if r.target != nil {
		e.At = r.target.Now()
	}
	if r.event != nil {
		e.Line = r.event.Pos.Line
	}
	r.trace.add(e)
}

// render returns a packet in script notation without changing what is known
// about its connection.
func (r *run) render(o *outbound) string {
	if o.mapped != nil {
		return o.mapped.String()
	}
	p, err := wire.Decode(o.Data)
	if err != nil {
		return fmt.Sprintf("> undecodable packet of %d octets: %v", len(o.Data), err)
	}
	c := r.connOf(p)
	if c == nil {
		c = &conn{}
	}
	snapshot := *c
	return snapshot.toScript(p, nil).String()
}

// isRelevant reports whether a packet is one that scripts speak about. A host
// also sends what no script mentions: neighbour discovery and the like.
func isRelevant(data []byte) bool {
	p, err := wire.Decode(data)
	if err != nil || p.TCP != nil || p.UDP != nil {
		return true
	}
	if p.ICMP == nil {
		return false
	}
	if p.IP.Protocol == wire.ProtoICMPv6 {
		return p.ICMP.Type < 130 // 130 and up are MLD and neighbour discovery.
	}
	return true
}

// newPacket is an outbound packet in script space without content.
func newPacket() *script.Packet { return &script.Packet{Dir: script.Outbound} }
