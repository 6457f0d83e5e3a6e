package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/plumbline/plumbline/congestion/testbed"
	"github.com/plumbline/plumbline/congestion/testbed/page"
)

// outputs are the reports of `plumbline bench cc`: a table always, unless the JSON takes its place.
type outputs struct {
	stdout     io.Writer
	json, html io.Writer // nil if not asked for
	page       page.Options
	files      []*os.File
	jsonStdout bool
	// comparisons follow the table.
	comparisons []testbed.Comparison
}

// createOutputs opens the files before anything runs, so that a wrong name is noticed at once.
func createOutputs(stdout io.Writer, json, html string) (*outputs, error) {
	o := &outputs{stdout: stdout, jsonStdout: json == "-"}
	if o.jsonStdout {
		o.json = stdout
	} else if json != "" {
		f, err := o.create(json)
		if err != nil {
			return nil, fmt.Errorf("--json: %w", err)
		}
		o.json = f
	}
	if html != "" {
		f, err := o.create(html)
		if err != nil {
			o.close()
			return nil, fmt.Errorf("--html: %w", err)
		}
		o.html = f
	}
	return o, nil
}

// create creates a file that close closes.
func (o *outputs) create(name string) (io.Writer, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	o.files = append(o.files, f)
	return f, nil
}

// write writes the reports.
func (o *outputs) write(results []*testbed.Result) error {
	var errs []error
	if !o.jsonStdout {
		errs = append(errs, testbed.WriteTable(o.stdout, results))
		if len(o.comparisons) > 0 {
			fmt.Fprintln(o.stdout)
			errs = append(errs, testbed.WriteComparison(o.stdout, o.comparisons))
		}
	}
	if o.json != nil {
		errs = append(errs, testbed.WriteJSON(o.json, results))
	}
	if o.html != nil {
		w := bufio.NewWriter(o.html)
		errs = append(errs, page.Write(w, results, o.page), w.Flush())
	}
	return errors.Join(append(errs, o.close())...)
}

// close closes the files; a second call does nothing.
func (o *outputs) close() error {
	var errs []error
	for _, f := range o.files {
		errs = append(errs, f.Close())
	}
	o.files = nil
	return errors.Join(errs...)
}

// progressLine tells how far a run is: a line that is written over on a terminal, a new one now and then elsewhere.
type progressLine struct {
	w        io.Writer
	terminal bool
	start    time.Time

	mu      sync.Mutex
	last    time.Time
	written bool
}

// How often a progress line is written, on a terminal and elsewhere.
const (
	progressOnTerminal = 200 * time.Millisecond
	progressElsewhere  = 15 * time.Second
)

func newProgressLine(w io.Writer) *progressLine {
	p := &progressLine{w: w, start: time.Now(), last: time.Now()}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// update writes the line if the last one is old enough.
func (p *progressLine) update(s testbed.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	every := progressElsewhere
	if p.terminal {
		every = progressOnTerminal
	}
	if now.Sub(p.last) < every || s.Total == 0 || s.Simulated == 0 {
		return
	}
	p.last = now
	share := float64(s.Simulated) / float64(s.Total)
	perSecond := float64(now.Sub(p.start)) / float64(s.Simulated)
	left := (s.Real + time.Duration(perSecond*float64(s.Total-s.Simulated-s.Real))).Round(time.Second)
	line := fmt.Sprintf("%d of %d scenarios, %.0f%%, about %v left", s.Finished, s.Scenarios, 100*share, left)
	if p.terminal {
		fmt.Fprintf(p.w, "\r%s\x1b[K", line)
		p.written = true
		return
	}
	fmt.Fprintln(p.w, line)
}

// clear removes the line.
func (p *progressLine) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.written {
		fmt.Fprint(p.w, "\r\x1b[K")
		p.written = false
	}
}
