package main

import (
	"slices"
	"strings"

	"github.com/plumbline/plumbline/conformance/target"
	"github.com/plumbline/plumbline/conformance/target/adapter"
	"github.com/plumbline/plumbline/conformance/target/linux"
)

// The words before the command of a stack in another process: with its packets
// in the protocol, or on a TUN device.
const (
	execPrefix = "exec:"
	tunPrefix  = "tun:"
)

// targetWords explains what a target may be.
var targetWords = strings.Join(target.Names(), ", ") + " (default these), " + linux.Name + " for the kernel below, which needs root and runs in real time, " +
	execPrefix + "COMMAND for a stack in another process (docs/adapter.md), or " + tunPrefix + "COMMAND for one with its packets on a TUN device, which needs root"

// targetPicker finds targets by the words of a command's flags. Close ends the
// processes that it started.
type targetPicker struct {
	// command is the command that errors name.
	command  string
	adapters []*adapter.Adapter
}

// close ends the processes of adapters.
func (p *targetPicker) close() {
	for _, a := range p.adapters {
		a.Close()
	}
	p.adapters = nil
}

// pick returns the kinds of target that the words name, each once.
func (p *targetPicker) pick(words []string) ([]target.Kind, error) {
	var kinds []target.Kind
	for _, word := range words {
		k, err := p.one(word)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(kinds, func(have target.Kind) bool { return have.Name == k.Name })
		switch {
		case i < 0:
			kinds = append(kinds, k)
		case isCommand(word):
			return nil, usageErrorf("%s: --target %s calls itself %q, as another target does", p.command, word, k.Name)
		}
	}
	return kinds, nil
}

// isCommand reports whether a target is a command.
func isCommand(word string) bool {
	return strings.HasPrefix(word, execPrefix) || strings.HasPrefix(word, tunPrefix)
}

// one returns one kind of target.
func (p *targetPicker) one(word string) (target.Kind, error) {
	if isCommand(word) {
		prefix, command, _ := strings.Cut(word, ":")
		a, err := adapter.Start(adapter.Options{Command: strings.Fields(command), TUN: prefix+":" == tunPrefix})
		if err != nil {
			return target.Kind{}, usageErrorf("%s: --target %s: %w", p.command, word, err)
		}
		p.adapters = append(p.adapters, a)
		return a.Kind(), nil
	}
	return builtinTarget(p.command, word)
}

// builtinTarget returns the kind of target of that name, for the command named.
func builtinTarget(command, name string) (target.Kind, error) {
	all := append(target.Kinds(), linux.Kind())
	i := slices.IndexFunc(all, func(k target.Kind) bool { return k.Name == name })
	if i < 0 {
		return target.Kind{}, usageErrorf("%s: no target %q; there are %s and %s", command, name, strings.Join(target.Names(), ", "), linux.Name)
	}
	if name == linux.Name {
		if err := linux.Check(); err != nil {
			return target.Kind{}, usageErrorf("%s: --target %s: %w", command, name, err)
		}
	}
	return all[i], nil
}
