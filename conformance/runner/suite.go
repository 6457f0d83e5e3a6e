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
	// Cases are tests in Go that run beside the scripts.
	Cases []*Case
	// Broken are files that were meant to be scripts and could not be
	// parsed. Each counts as unsupported on every target.
	Broken  []Broken
	Targets []target.Kind
	// Match, if not nil, selects runs: those whose name, as Result.Name
	// returns it, or whose script names a requirement that it matches.
	Match *regexp.Regexp
	// Options apply to every run.
	Options Options
	// Parallel is how many runs go on at a time; 0 means GOMAXPROCS. Those on
	// targets in real time do not count.
	Parallel int
	// RealTimeParallel is how many runs on targets in real time go on at a
	// time, after the others have ended; 0 means 1, which disturbs times
	// least. Scripts mostly wait, so that an idle machine bears many.
	RealTimeParallel int
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

// job is one run of a suite: of a script or of a case in Go.
type job struct {
	script *script.Script
	code   *Case
	kind   target.Kind
	ip     IPVersion
}

// name is the name of what the job runs.
func (j job) name() string {
	if j.code != nil {
		return j.code.Name
	}
	return j.script.Name
}

// requirements are those that the job may prove.
func (j job) requirements() []string {
	if j.code != nil {
		return j.code.Tags.Requirements
	}
	return j.script.Tags.Requirements
}

// run does the job.
func (j job) run(opt Options) *Result {
	if j.code != nil {
		return RunCase(j.code, j.kind, j.ip, opt)
	}
	return Run(j.script, j.kind, j.ip, opt)
}

// Versions returns the versions of IP that a script runs over.
func Versions(s *script.Script) []IPVersion {
	only, _ := s.Option("ip_version")
	return versions(s.Tags.IP, only)
}

// Versions returns the versions of IP that a case runs over.
func (c *Case) Versions() []IPVersion { return versions(c.Tags.IP, "") }

// versions lists the versions in a set, of which an option may select one.
func versions(set script.IPVersions, only string) []IPVersion {
	var out []IPVersion
	if set&script.IPv4 != 0 && only != "ipv6" {
		out = append(out, 4)
	}
	if set&script.IPv6 != 0 && only != "ipv4" {
		out = append(out, 6)
	}
	return out
}

// jobs lists the runs of the suite, by script, then by version of IP, then by
// target.
func (s *Suite) jobs() []job {
	var jobs []job
	add := func(j job, versions []IPVersion) {
		for _, j.ip = range versions {
			for _, j.kind = range s.Targets {
				if s.selects(j) {
					jobs = append(jobs, j)
				}
			}
		}
	}
	for _, sc := range s.Scripts {
		add(job{script: sc}, Versions(sc))
	}
	for _, c := range s.Cases {
		add(job{code: c}, c.Versions())
	}
	slices.SortStableFunc(jobs, func(a, b job) int { return cmp.Compare(a.name(), b.name()) })
	return jobs
}

// Selected returns the scripts of which Match selects a run, by name.
func (s *Suite) Selected() []*script.Script {
	var out []*script.Script
	for _, j := range s.jobs() {
		if j.script != nil && (len(out) == 0 || out[len(out)-1] != j.script) {
			out = append(out, j.script)
		}
	}
	return out
}

// selects reports whether Match selects a run.
func (s *Suite) selects(j job) bool {
	if s.Match == nil {
		return true
	}
	r := Result{Script: j.name(), Target: j.kind.Name, IP: j.ip}
	return s.Match.MatchString(r.Name()) || slices.ContainsFunc(j.requirements(), s.Match.MatchString)
}

// Run runs the suite and returns the results in the order of the names of the
// scripts, whatever the order in which they ended. When ctx ends, no further
// run starts and the results so far are returned with its error.
func (s *Suite) Run(ctx context.Context) ([]*Result, error) {
	jobs := s.jobs()
	results := make([]*Result, len(jobs))
	var virtual, real []int
	for i, j := range jobs {
		if j.kind.Capabilities.RealTime {
			real = append(real, i)
		} else {
			virtual = append(virtual, i)
		}
	}
	workers := s.Parallel
	if workers <= 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	run := func(i int) { results[i] = jobs[i].run(s.Options) }
	inParallel(ctx, virtual, workers, run)
	inParallel(ctx, real, max(s.RealTimeParallel, 1), run)
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

// inParallel calls do with each number, by so many workers, and returns when
// all are done. Once ctx ends it begins no more.
func inParallel(ctx context.Context, numbers []int, workers int, do func(int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range min(workers, len(numbers)) {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for _, i := range numbers {
		if ctx.Err() != nil {
			break
		}
		next <- i
	}
	close(next)
	wg.Wait()
}
