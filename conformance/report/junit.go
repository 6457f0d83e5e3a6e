package report

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/plumbline/plumbline/conformance/runner"
)

// The elements of JUnit XML, as far as continuous integration reads them.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name     string      `xml:"name,attr"`
		Tests    int         `xml:"tests,attr"`
		Failures int         `xml:"failures,attr"`
		Skipped  int         `xml:"skipped,attr"`
		Cases    []junitCase `xml:"testcase"`
	}
	junitCase struct {
		Class string `xml:"classname,attr"`
		Name  string `xml:"name,attr"`
		File  string `xml:"file,attr"`
		// Time is virtual time in seconds.
		Time    string        `xml:"time,attr"`
		Failure *junitMessage `xml:"failure"`
		Skipped *junitMessage `xml:"skipped"`
		// Out has what the oracle holds against the target.
		Out string `xml:"system-out,omitempty"`
	}
	junitMessage struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes results as JUnit XML: a test suite for each target and a test
// case for each run. Expected failures and what is unsupported are skipped
// tests, with the reason.
func JUnit(w io.Writer, results []*runner.Result) error {
	all := junitSuites{Name: "plumbline conform"}
	for _, t := range targetsOf(results) {
		s := junitSuite{Name: t}
		for _, r := range results {
			if r.Target == t {
				s.add(r)
			}
		}
		all.Tests += s.Tests
		all.Failures += s.Failures
		all.Suites = append(all.Suites, s)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	enc := xml.NewEncoder(w)
	enc.Indent("", "  ")
	if err := enc.Encode(all); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}

// add appends a run.
func (s *junitSuite) add(r *runner.Result) {
	c := junitCase{
		Class: r.Target, Name: fmt.Sprintf("%s/%v", r.Script, r.IP), File: r.Script,
		Time: fmt.Sprintf("%.6f", r.Elapsed.Seconds()),
	}
	s.Tests++
	switch {
	case !r.Verdict.OK():
		s.Failures++
		var text strings.Builder
		writeResult(&text, r, true)
		c.Failure = &junitMessage{Message: string(r.Verdict) + ": " + r.Reason, Text: text.String()}
	case r.Verdict != runner.Pass:
		s.Skipped++
		c.Skipped = &junitMessage{Message: string(r.Verdict) + ": " + r.Reason}
	}
	for i := range r.Findings {
		c.Out += "oracle: " + r.Findings[i].String() + "\n"
	}
	s.Cases = append(s.Cases, c)
}
