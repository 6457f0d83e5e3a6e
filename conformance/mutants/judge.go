package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"

	"gvisor.dev/gvisor/pkg/log"

	"github.com/plumbline/plumbline/conformance/fuzz"
	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/suite"
	"github.com/plumbline/plumbline/conformance/target"
)

// found is what speaks against a TCP.
type found struct {
	// Scripts are those that failed, Hard and Soft the rules that the oracle found broken, with how often, and Fuzz the classes of failures that random cases had.
	Scripts    []string
	Hard, Soft map[string]int
	Fuzz       []string
	// Died says how the judge ended if it printed nothing.
	Died string
}

// caught reports whether it is enough.
func (f *found) caught() bool {
	return len(f.Scripts) > 0 || len(f.Hard) > 0 || len(f.Fuzz) > 0 || f.Died != ""
}

// subtractSoft leaves of the soft rules those that are broken more often than by the original.
func (f *found) subtractSoft(original found) {
	maps.DeleteFunc(f.Soft, func(rule string, n int) bool { return n <= original.Soft[rule] })
}

// String says it on one line.
func (f found) String() string {
	var parts []string
	if n := len(f.Scripts); n > 0 {
		parts = append(parts, fmt.Sprintf("scripts: %d, %s", n, f.Scripts[0]))
	}
	for _, x := range []struct {
		what string
		list []string
	}{{"oracle", slices.Sorted(maps.Keys(f.Hard))}, {"fuzz", f.Fuzz}, {"soft", slices.Sorted(maps.Keys(f.Soft))}} {
		if len(x.list) > 0 {
			parts = append(parts, x.what+": "+strings.Join(x.list, ", "))
		}
	}
	if f.Died != "" {
		parts = append(parts, f.Died)
	}
	if !f.caught() {
		parts = append([]string{"SURVIVED"}, parts...)
	}
	return strings.Join(parts, "; ")
}

// judgeHere judges the tcpx in this program, and prints what was found.
func judgeHere(ctx context.Context, out io.Writer, seed uint64, cases int) error {
	log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}})
	got := found{Hard: make(map[string]int), Soft: make(map[string]int)}
	if err := got.bySuite(ctx, seed); err != nil {
		return err
	}
	if err := got.byFuzzing(ctx, seed, cases); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(got)
}

// bySuite runs the suite over IPv4 with the oracle watching.
func (f *found) bySuite(ctx context.Context, seed uint64) error {
	scripts, err := suite.Load()
	if err != nil {
		return err
	}
	s := runner.Suite{
		Scripts: scripts, Cases: suite.Cases(), Targets: []target.Kind{target.TCPX()}, Match: regexp.MustCompile("/ipv4/"),
		Options: runner.Options{Seed: seed, Oracle: true},
	}
	results, err := s.Run(ctx)
	for _, r := range results {
		hard := false
		for _, x := range r.Findings {
			if x.Tier == oracle.Hard {
				f.Hard[x.Rule]++
				hard = true
			} else {
				f.Soft[x.Rule]++
			}
		}
		if !r.Verdict.OK() && !(hard && strings.HasPrefix(r.Failure.Message, "the oracle says")) {
			f.Scripts = append(f.Scripts, r.Script)
		}
	}
	return err
}

// byFuzzing runs random cases.
func (f *found) byFuzzing(ctx context.Context, seed uint64, cases int) error {
	if cases == 0 {
		return nil
	}
	r, err := fuzz.Run(ctx, fuzz.Options{Kind: target.TCPX(), Seed: seed, Cases: cases, NoShrink: true})
	if err != nil {
		return err
	}
	for _, x := range r.Failures {
		f.Fuzz = append(f.Fuzz, x.Class)
	}
	return nil
}

// ask runs a judge and reads what it found. That it panics, or does not end, is found too.
func (f *flags) ask(ctx context.Context, program string) (found, error) {
	limited, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	cmd := exec.CommandContext(limited, program, "-judge", fmt.Sprint("-seed=", f.seed), fmt.Sprint("-cases=", f.cases))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	switch {
	case ctx.Err() != nil:
		return found{}, ctx.Err()
	case limited.Err() != nil:
		return found{Died: fmt.Sprintf("does not end in %v", f.patience)}, nil
	case err != nil && bytes.Contains(errs.Bytes(), []byte("goroutine ")):
		first, _, _ := strings.Cut(errs.String(), "\n")
		return found{Died: first}, nil
	case err != nil:
		return found{}, errors.Join(err, errors.New(errs.String()))
	}
	var got found
	err = json.Unmarshal(out.Bytes(), &got)
	return got, err
}
