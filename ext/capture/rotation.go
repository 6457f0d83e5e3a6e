package capture

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Files says to which files a capture goes, one after the other. Each is complete
// by itself. At least one of Size and Interval is required.
type Files struct {
	// Path is the name of the files without their numbers: "trace.pcapng" makes
	// trace.000001.pcapng and so on. Numbers go on behind the highest that is
	// there already.
	Path string
	// Size in bytes ends a file before the packet that would make it longer. A
	// file has one packet at least. Zero means no limit.
	Size int64
	// Interval ends a file before the packet that comes so long after the first
	// in it. Zero means no limit.
	Interval time.Duration
	// Count is how many files are kept, the one that is being written included:
	// when another begins the oldest are removed, also those of earlier captures
	// with the same Path. Zero keeps all.
	Count int
}

// check says what is wrong with f.
func (f *Files) check() error {
	switch {
	case f.Path == "":
		return errors.New("capture: no path for the files")
	case f.Size < 0:
		return fmt.Errorf("capture: files of %d bytes", f.Size)
	case f.Interval < 0:
		return fmt.Errorf("capture: files of %v", f.Interval)
	case f.Size == 0 && f.Interval == 0:
		return errors.New("capture: neither a size nor an interval ends a file")
	case f.Count < 0:
		return fmt.Errorf("capture: %d files to be kept", f.Count)
	}
	return nil
}

// NewFiles is New with files that follow each other. An error of a later file is
// reported by Endpoint.Err; the link goes on without being recorded.
func NewFiles(child stack.LinkEndpoint, files Files, opts Options) (*Endpoint, error) {
	if err := files.check(); err != nil {
		return nil, err
	}
	r := &rotation{Files: files}
	if err := r.find(); err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	file, err := r.open()
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	e, err := start(child, file, r, opts)
	if err != nil {
		file.Close()
	}
	return e, err
}

// rotation opens one file after the other. Only one goroutine uses it.
type rotation struct {
	Files
	number int      // of the file at hand
	there  []string // files with numbers, the oldest first
	file   *os.File // at hand
}

// name returns the name of file n.
func (r *rotation) name(n int) string {
	ext := filepath.Ext(r.Path)
	return fmt.Sprintf("%s.%06d%s", strings.TrimSuffix(r.Path, ext), n, ext)
}

// find looks which files there are.
func (r *rotation) find() error {
	dir, base := filepath.Split(r.Path)
	if dir == "" {
		dir = "."
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	ext := filepath.Ext(base)
	stem := strings.TrimSuffix(base, ext) + "."
	var numbers []int
	for _, entry := range entries {
		middle, ok := strings.CutPrefix(entry.Name(), stem)
		if !ok {
			continue
		}
		middle, ok = strings.CutSuffix(middle, ext)
		n, err := strconv.Atoi(middle)
		if ok && err == nil && n > 0 && entry.Type().IsRegular() && filepath.Base(r.name(n)) == entry.Name() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		r.number = n
		r.there = append(r.there, r.name(n))
	}
	return nil
}

// open opens the next file and removes those that are too many.
func (r *rotation) open() (*os.File, error) {
	r.number++
	name := r.name(r.number)
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	r.file = file
	r.there = append(r.there, name)
	for r.Count > 0 && len(r.there) > r.Count {
		if err := os.Remove(r.there[0]); err != nil && !errors.Is(err, os.ErrNotExist) {
			file.Close()
			return nil, err
		}
		r.there = r.there[1:]
	}
	return file, nil
}

// ends says whether the file of o ends before packet p.
func (r *rotation) ends(o *output, p *record) bool {
	return r.Size > 0 && o.size+blockSize(p)+statisticsBlock > r.Size ||
		r.Interval > 0 && p.at.Sub(o.first) >= r.Interval
}

// close closes the file at hand.
func (r *rotation) close() error { return r.file.Close() }
