package runner

import (
	"fmt"
	"hash/fnv"
	"runtime/debug"
	"time"

	"github.com/plumbline/plumbline/conformance/oracle"
	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// Verdict is what a run ends in.
type Verdict string

// The verdicts.
const (
	// Pass: the target did all that the script says.
	Pass Verdict = "PASS"
	// Fail: it did not, and nobody expected that.
	Fail Verdict = "FAIL"
	// XFail: it failed, as an expect tag of the script says it does.
	XFail Verdict = "XFAIL"
	// XPass: it passed although an expect tag says that it fails. The tag
	// is out of date, which counts as a failure of the suite.
	XPass Verdict = "XPASS"
	// Unsupported: the target, or the runner, cannot do what the script
	// needs. It says nothing about the target's TCP.
	Unsupported Verdict = "UNSUPPORTED"
	// NotApplicable: the requirement binds somebody else than a TCP, or
	// cannot be seen from outside.
	NotApplicable Verdict = "N/A"
	// Untested: no script names the requirement.
	Untested Verdict = "UNTESTED"
)

// OK reports whether the verdict is one that lets a suite succeed.
func (v Verdict) OK() bool { return v != Fail && v != XPass }

// Level is how closely packets are compared.
type Level string

// The levels.
const (
	// RFC compares what the specifications fix: options as a set, without
	// padding; PSH not at all; data by its range, however it was cut into
	// segments.
	RFC Level = "rfc"
	// Strict compares as packetdrill does: options in order, every flag;
	// consecutive segments are joined to the length that the script gives.
	Strict Level = "strict"
)

// ParseLevel returns the level of that name.
func ParseLevel(name string) (Level, error) {
	switch l := Level(name); l {
	case RFC, Strict:
		return l, nil
	}
	return "", fmt.Errorf("level %q: want rfc or strict", name)
}

// IPVersion is the version of IP of a run: 4 or 6.
type IPVersion int

// String returns "ipv4" or "ipv6".
func (v IPVersion) String() string { return fmt.Sprintf("ipv%d", int(v)) }

// Options say how to run a script. The zero value runs it as it asks.
type Options struct {
	// Level is how to compare packets. If it is "", scripts of the profile
	// "linux" are compared strictly and all others at level RFC.
	Level Level
	// Seed determines all that is random. Every script gets a seed of its
	// own that is derived from it.
	Seed uint64
	// ReadFile returns the content of a file that a shell command of a
	// script names, as in `../common/defaults.sh`. The name is relative to
	// what the names of scripts are relative to; it may begin with "..". If
	// ReadFile is nil such commands are unsupported.
	ReadFile func(name string) ([]byte, error)
	// Addrs are the addresses of the link, but for those that the script names.
	// The zero value means [target.DefaultAddrs].
	Addrs target.Addrs
	// Shell, if not "", runs the commands of scripts in a shell, on targets
	// that are a [target.Host]. It is the directory that the names of scripts
	// are relative to. A command can do whatever the program itself can.
	Shell string
	// Tolerance is how early or late an event may be at least, unless the
	// script says it itself with --tolerance_usecs. If it is 0, that is 4 ms.
	Tolerance time.Duration
	// MaxRealTime is how long a script may last on a target in real time,
	// by what its times add up to. A longer one is unsupported. If it is 0
	// there is no limit.
	MaxRealTime time.Duration
	// IgnoreLeftovers does not check for packets that are left over at the
	// end of a script, nor for those of other connections than the one that
	// an event is about, as packetdrill does not.
	IgnoreLeftovers bool
	// Ignore is what is not compared at all.
	Ignore Ignored
	// Oracle judges the packets of each run by package oracle as well: a run
	// fails if what the target sent breaks a rule of the hard tier. What breaks
	// one of the soft tier is in Result.Findings.
	Oracle bool
}

// Result is the outcome of running one script on one target.
type Result struct {
	// Script is the name of the script, Target that of the kind of target.
	Script, Target string
	// IP is the version of IP that the script ran over.
	IP    IPVersion
	Level Level
	// Tags are those of the script.
	Tags script.Tags
	// Source is the text of the script, "" for a case in Go.
	Source string
	// Verdict says how it went. Reason explains a verdict other than Pass
	// in one line.
	Verdict Verdict
	Reason  string
	// Failure says where it went wrong if it did; it is set for Fail and
	// XFail.
	Failure *Failure
	// Notes are remarks: settings that were not applied, leniencies used.
	Notes []string
	// Findings are what the oracle holds against the target, of both tiers, if
	// Options.Oracle asks for it. Those of the soft tier fail nothing.
	Findings []oracle.Finding
	// Trace is all that happened, in order.
	Trace []Entry
	// Elapsed is how much time the run took, in the time of the target.
	Elapsed time.Duration
	// Retried is why the run before this one failed, or "". A target in real
	// time has a second chance if what went wrong was a matter of time.
	Retried string
}

// Name identifies the run among those of a suite, as in
// "open/active.pkt/ipv4/tcpx".
func (r *Result) Name() string { return fmt.Sprintf("%s/%v/%s", r.Script, r.IP, r.Target) }

// Failure is the first thing that did not go as the script says.
type Failure struct {
	// Pos is the place in the script.
	Pos script.Position
	// At is when it happened.
	At time.Duration
	// Event is the source text of the event.
	Event string
	// Message says what is wrong, in one line.
	Message string
	// Timing says that something came too early, too late, or not in time,
	// which on a target in real time may be the machine's doing.
	Timing bool
	// Expected and Actual are both sides of the comparison in the notation
	// of scripts; Actual is "" if nothing happened.
	Expected, Actual string
}

// Error implements error.
func (f *Failure) Error() string { return fmt.Sprintf("%v: %s", f.Pos, f.Message) }

// EntryKind says what an Entry of a trace is.
type EntryKind uint8

// The kinds of entry.
const (
	Inbound  EntryKind = iota // a packet that was injected
	Outbound                  // a packet that the target sent
	Called                    // a system call with its result
	Other                     // anything else
)

// Entry is one thing that happened during a run.
type Entry struct {
	At   time.Duration
	Kind EntryKind
	// Line is the line of the script that the entry belongs to, or 0 for a
	// packet that no line expected.
	Line int
	// Text is the entry in the notation of scripts.
	Text string
	// Data is the packet as it was on the wire.
	Data []byte
}

// String returns the entry on one line, with its time in seconds.
func (e Entry) String() string {
	where := "     "
	if e.Line > 0 {
		where = fmt.Sprintf("%5d", e.Line)
	}
	return fmt.Sprintf("%s %12.6f %s", where, e.At.Seconds(), e.Text)
}

// Run runs a script on a fresh instance of a target. It does not panic if the
// target does: that is a failure of the target. On a target in real time a run
// that fails in timing is repeated once; Result.Retried tells.
func Run(s *script.Script, kind target.Kind, ip IPVersion, opt Options) *Result {
	return withRetry(kind, func() *Result { return runOnce(s, kind, ip, opt) })
}

// withRetry runs once, or twice if the first time failed in timing on a target
// in real time.
func withRetry(kind target.Kind, run func() *Result) *Result {
	res := run()
	if !kind.Capabilities.RealTime || res.Verdict != Fail || res.Failure == nil || !res.Failure.Timing {
		return res
	}
	reason := res.Reason
	res = run()
	res.Retried = reason
	res.Notes = append(res.Notes, "run again, since the first time failed in timing: "+reason)
	return res
}

// runOnce runs a script.
func runOnce(s *script.Script, kind target.Kind, ip IPVersion, opt Options) (res *Result) {
	res = &Result{Script: s.Name, Target: kind.Name, IP: ip, Tags: s.Tags, Source: s.Source, Level: levelOf(s, opt)}
	r := &run{script: s, kind: kind, opt: opt, result: res, v6: ip == 6, strict: res.Level == Strict}
	defer func() {
		if p := recover(); p != nil {
			r.note("%s", debug.Stack())
			r.finish(r.failf("the target panicked: %v", p))
		}
	}()
	r.finish(r.execute())
	return res
}

// levelOf returns the level to run a script at.
func levelOf(s *script.Script, opt Options) Level {
	switch {
	case opt.Level != "":
		return opt.Level
	case s.Tags.Profile == script.ProfileLinux:
		return Strict
	default:
		return RFC
	}
}

// seedOf derives the seed of one run from that of the suite. Targets do not
// enter into it: what two of them do is compared under the same seed.
func seedOf(seed uint64, name string, ip IPVersion) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s %d", seed, name, ip)
	return h.Sum64()
}

// finish turns the error that ended a run into its verdict.
func (r *run) finish(err error) {
	res := r.result
	res.Trace = r.trace.entries(r)
	if b, ok := r.target.(target.Breakable); ok && b.Broken() != nil {
		err = r.failf("%v", b.Broken())
	}
	err = r.judge(err)
	if r.target != nil {
		res.Elapsed = r.target.Now()
		r.cleanUp()
		r.target.Close()
		r.target = nil
	}
	expect, _ := r.result.Tags.Expectation(r.kind.Name)
	unsupported := target.IsUnsupported(err)
	if err == nil && r.unknown != "" {
		unsupported = &target.UnsupportedError{What: r.unknown}
	}
	var failure *Failure
	switch {
	case unsupported != nil:
		res.Verdict, res.Reason = Unsupported, unsupported.Error()
		if expect.Verdict == script.ExpectPass || expect.Verdict == script.ExpectUnsupported {
			return
		}
		res.Reason += "; the script expects " + string(expect.Verdict)
		return
	case err != nil:
		failure, _ = err.(*Failure)
		if failure == nil {
			failure = &Failure{Pos: script.Position{File: r.script.Name, Line: 1, Column: 1}, Message: err.Error()}
		}
		res.Failure = failure
		res.Verdict, res.Reason = Fail, failure.Message
		if expect.Verdict == script.ExpectFail {
			res.Verdict, res.Reason = XFail, expect.Reason
		}
	case expect.Verdict == script.ExpectFail:
		res.Verdict, res.Reason = XPass, "expected to fail: "+expect.Reason
	case expect.Verdict == script.ExpectUnsupported:
		res.Verdict, res.Reason = XPass, "expected to be unsupported: "+expect.Reason
	default:
		res.Verdict = Pass
	}
}
