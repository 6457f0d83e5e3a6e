package adapter

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// process is one process that speaks the protocol. It is used by one goroutine.
type process struct {
	cmd      *exec.Cmd
	in       io.WriteCloser
	out      io.Closer
	lines    chan line
	quit     chan struct{} // closed when nobody wants lines any more
	patience time.Duration
	stderr   *tail
	once     sync.Once
}

// line is one line that the process wrote, or why there are no more.
type line struct {
	text []byte
	err  error
}

// launch starts the command. Start is cmd.Start, or calls it elsewhere.
func launch(command []string, env []string, patience time.Duration, start func(*exec.Cmd) error) (*process, error) {
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Env = append(os.Environ(), env...)
	p := &process{cmd: cmd, lines: make(chan line), quit: make(chan struct{}), patience: patience, stderr: &tail{}}
	cmd.Stderr = p.stderr
	// Whoever has inherited the descriptors must not keep Wait from returning.
	cmd.WaitDelay = time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.in, p.out = in, out
	if err := start(cmd); err != nil {
		return nil, err
	}
	go p.read(out)
	return p, nil
}

// read reads lines until the process ends or is stopped.
func (p *process) read(r io.Reader) {
	in := bufio.NewScanner(r)
	in.Buffer(nil, maxLine)
	send := func(l line) bool {
		select {
		case p.lines <- l:
			return true
		case <-p.quit:
			return false
		}
	}
	for in.Scan() {
		if !send(line{text: append([]byte(nil), in.Bytes()...)}) {
			return
		}
	}
	err := in.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		err = fmt.Errorf("it wrote a line of more than %d MiB", maxLine>>20)
	case err == nil:
		err = errors.New("it ended")
	}
	send(line{err: err})
}

// ask sends a request and waits for the reply, for the patience of the process
// and for longer if the request is to take time.
func (p *process) ask(req *request, longer time.Duration) (*reply, error) {
	b, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(p.patience + longer)
	defer timer.Stop()
	wrote := make(chan error, 1)
	go func() {
		_, err := p.in.Write(append(b, '\n'))
		wrote <- err
	}()
	for {
		select {
		case err := <-wrote:
			wrote = nil
			if err != nil {
				return nil, p.broken(req, fmt.Errorf("it takes no requests: %w", err))
			}
		case l := <-p.lines:
			if l.err != nil {
				return nil, p.broken(req, l.err)
			}
			rep := new(reply)
			if err := json.Unmarshal(l.text, rep); err != nil {
				return nil, p.broken(req, fmt.Errorf("it wrote %q, which is no reply: %w", clean(string(l.text)), err))
			}
			return rep, nil
		case <-timer.C:
			return nil, p.broken(req, fmt.Errorf("no answer within %v", p.patience+longer))
		}
	}
}

// broken is what became of a request in vain, on one line. The process is of no
// use from here on.
func (p *process) broken(req *request, err error) error {
	p.stop()
	what := req.Op
	if req.Call != "" {
		what += " " + req.Call
	}
	text := fmt.Sprintf("adapter %s: after %q: %v", clean(p.cmd.Path), what, err)
	if last := p.stderr.last(); last != "" {
		text += "; it said: " + last
	}
	return errors.New(text)
}

// stop ends the process.
func (p *process) stop() {
	p.once.Do(func() {
		close(p.quit)
		p.in.Close()
		p.out.Close()
		if p.cmd.Process != nil {
			_ = p.cmd.Process.Kill()
		}
		_ = p.cmd.Wait() // that it was killed is known
	})
}

// tail keeps the end of what a process writes to its standard error.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write implements io.Writer.
func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	const most = 4096
	t.text = append(t.text, b[max(0, len(b)-most):]...)
	t.text = append(t.text[:0], t.text[max(0, len(t.text)-most):]...)
	return len(b), nil
}

// last returns the last line that is not empty.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return clean(lines[len(lines)-1])
}
