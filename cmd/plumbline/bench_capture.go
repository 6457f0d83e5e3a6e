package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/plumbline/plumbline/congestion/testbed"
	"github.com/plumbline/plumbline/ext/capture"
)

// captureHeaders is how much of a packet is recorded: the payload of the testbed is nothing but zeros.
const captureHeaders = 128

// captures records the packets of a sweep at the senders' links, a file for each scenario and sending host.
type captures struct {
	dir    string
	single string // the only file, if the flag names one

	mu    sync.Mutex
	files []*recordedFile
}

type recordedFile struct {
	*os.File
	endpoint *capture.Endpoint
}

// newCaptures prepares what --pcapng asks for: a directory, or one file for one scenario.
func newCaptures(name string, scenarios []*testbed.Scenario) (*captures, error) {
	if strings.HasSuffix(name, ".pcapng") {
		if len(scenarios) != 1 {
			return nil, fmt.Errorf("%s is one file for %d scenarios; name a directory", name, len(scenarios))
		}
		f, err := os.Create(name) // Notice a wrong name before anything runs.
		if err != nil {
			return nil, err
		}
		return &captures{single: name}, f.Close()
	}
	if err := os.MkdirAll(name, 0o777); err != nil {
		return nil, err
	}
	if info, err := os.Stat(name); err != nil || !info.IsDir() {
		return nil, &fs.PathError{Op: "mkdir", Path: name, Err: fs.ErrExist}
	}
	return &captures{dir: name}, nil
}

// options returns those of one scenario. Its hosts are captured one after the other.
func (c *captures) options(_ int, s *testbed.Scenario) testbed.Options {
	host := 0
	return testbed.Options{Capture: func(link stack.LinkEndpoint, clock tcpip.Clock) (stack.LinkEndpoint, error) {
		host++
		f, err := os.Create(c.fileName(s, host))
		if err != nil {
			return nil, err
		}
		e, err := capture.New(link, f, capture.Options{Name: s.Name, SnapLength: captureHeaders, Clock: clock, Lossless: true})
		if err != nil {
			f.Close()
			return nil, err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.files = append(c.files, &recordedFile{f, e})
		return e, nil
	}}
}

// fileName returns the name of the file of a host, counted from 1.
func (c *captures) fileName(s *testbed.Scenario, host int) string {
	name := c.single
	if name == "" {
		safe := strings.Map(func(r rune) rune {
			if strings.ContainsRune(`/\:*?"<>|`, r) || r <= ' ' {
				return '_'
			}
			return r
		}, strings.Join([]string{s.Name, s.Stack(), s.Algorithm()}, "-"))
		name = filepath.Join(c.dir, strings.TrimLeft(safe, ".")+".pcapng")
	}
	if host > 1 {
		name = fmt.Sprintf("%s-%d.pcapng", strings.TrimSuffix(name, ".pcapng"), host)
	}
	return name
}

// close waits until all is written.
func (c *captures) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, f := range c.files {
		f.endpoint.Wait()
		errs = append(errs, f.endpoint.Err(), f.Close())
	}
	c.files = nil
	return errors.Join(errs...)
}
