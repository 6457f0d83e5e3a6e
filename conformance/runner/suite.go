package runner

import (
	"cmp"
	"context"
	"regexp"
	"runtime"
	"slices"
	"sync"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// Suite is a set of scripts to run on a set of targets.
type Suite struct {
	Scripts []*script.Script
	// Broken are files that were meant to be scripts and could not be
	// parsed. Each counts as unsupported on every target.
	Broken  []Broken
	Targets []target.Kind
	// Match, if not nil, selects runs: those whose name, as Result.Name
	// returns it, or whose script names a requirement that it matches.
	Match *regexp.Regexp
	// Options apply to every run.
	Options Options
	// Parallel is how many runs go on at a time; 0 means GOMAXPROCS.
	// Targets in real time run alone whatever it says.
	Parallel int
}

// Broken is a script that could not be parsed.
type Broken struct {
	// Name is its name.
	Name string
	// Err says why, with file, line and column.
	Err error
}

// results are what a broken script counts as.
func (b Broken) results(targets []target.Kind) []*Result {
	var out []*Result
	for _, k := range targets {
		for _, ip := range []IPVersion{4, 6} {
			out = append(out, &Result{
				Script: b.Name, Target: k.Name, IP: ip, Verdict: Unsupported, Reason: "not parsed: " + b.Err.Error(),
			})
		}
	}
	return out
}

// job is one run of a suite.
type job struct {
	script *script.Script
	kind   target.Kind
	ip     IPVersion
}

// Versions returns the versions of IP that a script runs over.
func Versions(s *script.Script) []IPVersion {
	var out []IPVersion
	only, _ := s.Option("ip_version")
	if s.Tags.IP&script.IPv4 != 0 && only != "ipv6" {
		out = append(out, 4)
	}
	if s.Tags.IP&script.IPv6 != 0 && only != "ipv4" {
		out = append(out, 6)
	}
	return out
}

// jobs lists the runs of the suite, by script, then by version of IP, then by
// target.
func (s *Suite) jobs() []job {
	scripts := slices.Clone(s.Scripts)
	slices.SortStableFunc(scripts, func(a, b *script.Script) int { return cmp.Compare(a.Name, b.Name) })
	var jobs []job
	for _, sc := range scripts {
		for _, ip := range Versions(sc) {
			for _, k := range s.Targets {
				if j := (job{sc, k, ip}); s.selects(j) {
					jobs = append(jobs, j)
				}
			}
		}
	}
	return jobs
}

// selects reports whether Match selects a run.
func (s *Suite) selects(j job) bool {
	if s.Match == nil {
		return true
	}
	r := Result{Script: j.script.Name, Target: j.kind.Name, IP: j.ip}
	return s.Match.MatchString(r.Name()) || slices.ContainsFunc(j.script.Tags.Requirements, s.Match.MatchString)
}

// Run runs the suite and returns the results in the order of the names of the
// scripts, whatever the order in which they ended. When ctx ends, no further
// run starts and the results so far are returned with its error.
func (s *Suite) Run(ctx context.Context) ([]*Result, error) {
	jobs := s.jobs()
	results := make([]*Result, len(jobs))
	workers := s.Parallel
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(workers, len(jobs)) {
		wg.Go(func() {
			for i := range next {
				results[i] = Run(jobs[i].script, jobs[i].kind, jobs[i].ip, s.Options)
			}
		})
	}
	var alone []int
	for i, j := range jobs {
		if j.kind.Capabilities.RealTime {
			alone = append(alone, i)
			continue
		}
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
	for _, i := range alone {
		if ctx.Err() != nil {
			break
		}
		results[i] = Run(jobs[i].script, jobs[i].kind, jobs[i].ip, s.Options)
	}
	results = slices.DeleteFunc(results, func(r *Result) bool { return r == nil })
	for _, b := range s.Broken {
		for _, r := range b.results(s.Targets) {
			if s.Match == nil || s.Match.MatchString(r.Name()) {
				results = append(results, r)
			}
		}
	}
	return results, ctx.Err()
}
