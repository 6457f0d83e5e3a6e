package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"

	"github.com/plumbline/plumbline/conformance/report"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/target/linux"
)

// reports are the reports that `plumbline conform` writes to files, each asked
// for by a flag.
var reports = []struct {
	flag, what string
	write      func(w io.Writer, results []*runner.Result, seed uint64) error
}{
	{"html", "HTML, one page to open in a browser,", func(w io.Writer, results []*runner.Result, seed uint64) error {
		return report.HTML(w, results, report.HTMLOptions{Seed: seed, Version: buildVersion()})
	}},
	{"json", "JSON", report.JSON},
	{"junit", "JUnit XML", func(w io.Writer, results []*runner.Result, _ uint64) error { return report.JUnit(w, results) }},
	{"tap", "the Test Anything Protocol", func(w io.Writer, results []*runner.Result, _ uint64) error { return report.TAP(w, results) }},
}

// reportFiles are the files of the reports that were asked for, by flag.
type reportFiles map[string]*os.File

// createReports opens the files before anything runs, so that a wrong name is
// noticed at once.
func (f *conformFlags) createReports() (reportFiles, error) {
	files := make(reportFiles)
	for _, r := range reports {
		name := *f.reports[r.flag]
		if name == "" {
			continue
		}
		file, err := os.Create(name)
		if err != nil {
			files.close()
			return nil, usageErrorf("conform: --%s: %w", r.flag, err)
		}
		files[r.flag] = file
	}
	return files, nil
}

// write writes the reports.
func (files reportFiles) write(results []*runner.Result, seed uint64) error {
	var errs []error
	for _, r := range reports {
		if file := files[r.flag]; file != nil {
			errs = append(errs, r.write(file, results, seed), file.Close())
			delete(files, r.flag)
		}
	}
	return errors.Join(errs...)
}

// close closes what was not written.
func (files reportFiles) close() {
	for _, f := range files {
		f.Close()
	}
}

// checkSnapshot compares the verdicts with the snapshot that was asked for, or
// writes it. It reports false if they differ.
func (f *conformFlags) checkSnapshot(out io.Writer, results []*runner.Result) (bool, error) {
	if f.snapshot == "" {
		return true, nil
	}
	partial := f.run != ""
	now, old := report.SnapshotOf(results), &report.Snapshot{}
	f.describe(now)
	text, err := os.ReadFile(f.snapshot)
	switch {
	case err == nil:
		if old, err = report.ReadSnapshot(bytes.NewReader(text)); err != nil {
			return false, usageErrorf("conform: --snapshot %s: %w", f.snapshot, err)
		}
	case !f.update || !errors.Is(err, os.ErrNotExist):
		return false, usageErrorf("conform: --snapshot: %w", err)
	}
	if f.update {
		now.Merge(old, partial)
		var b bytes.Buffer
		if err := now.Write(&b); err != nil {
			return false, err
		}
		return true, os.WriteFile(f.snapshot, b.Bytes(), 0o666)
	}
	diff := now.Diff(old, partial)
	if len(diff) == 0 {
		return true, nil
	}
	fmt.Fprintf(out, "\n%d verdicts differ from %s:\n", len(diff), f.snapshot)
	for _, line := range diff {
		fmt.Fprintln(out, "  "+line)
	}
	fmt.Fprintln(out, "If they are meant to, --update writes them to the file.")
	return false, nil
}

// describe puts into a snapshot what is not of this module: the kernel, and how
// much time it had.
func (f *conformFlags) describe(s *report.Snapshot) {
	if slices.Contains(f.targets, linux.Name) {
		s.Describe(linux.Name, fmt.Sprintf("%s; --max-time %v", linux.Version(), f.maxTime))
	}
}

// buildVersion is the version of this program, or "".
func buildVersion() string {
	bi, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	v := versionFrom(bi)
	return "plumbline " + v.Version + ", gVisor " + v.GVisor
}
