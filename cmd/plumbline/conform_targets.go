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

// selectTargets returns the kinds of target that were asked for, or those that
// need nothing. Processes that it starts are in f.adapters.
func (f *conformFlags) selectTargets() ([]target.Kind, error) {
	if len(f.targets) == 0 {
		return target.Kinds(), nil
	}
	var kinds []target.Kind
	for _, word := range f.targets {
		k, err := f.selectTarget(word)
		if err != nil {
			return nil, err
		}
		i := slices.IndexFunc(kinds, func(have target.Kind) bool { return have.Name == k.Name })
		switch {
		case i < 0:
			kinds = append(kinds, k)
		case isCommand(word):
			return nil, usageErrorf("conform: --target %s calls itself %q, as another target does", word, k.Name)
		}
	}
	return kinds, nil
}

// isCommand reports whether a target is a command.
func isCommand(word string) bool {
	return strings.HasPrefix(word, execPrefix) || strings.HasPrefix(word, tunPrefix)
}

// selectTarget returns one kind of target.
func (f *conformFlags) selectTarget(word string) (target.Kind, error) {
	if isCommand(word) {
		prefix, command, _ := strings.Cut(word, ":")
		a, err := adapter.Start(adapter.Options{Command: strings.Fields(command), TUN: prefix+":" == tunPrefix})
		if err != nil {
			return target.Kind{}, usageErrorf("conform: --target %s: %w", word, err)
		}
		f.adapters = append(f.adapters, a)
		return a.Kind(), nil
	}
	return builtinTarget("conform", word)
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
