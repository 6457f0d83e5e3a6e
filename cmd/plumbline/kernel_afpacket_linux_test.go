//go:build amd64 || arm64

package main

import (
	"io"
	"os/exec"
	"regexp"
	"testing"
)

// ping, curl and iperf3 reach the netstack over packet sockets, in segments that
// no device cut.
func TestKernelAFPacket(t *testing.T) {
	eachStack(t, func(t *testing.T, stack, version string) {
		l := newVethLab(t, 1500, 1)
		l.link = "afpacket:dev0"
		n := size(32 << 20)
		l.program("Server listening", "iperf3", "--server", "--port", "5201", "--forceflush")
		p := l.proxy(stack, "--listen", "80", "--to", l.serveHTTP(n), "--listen", "5201", "--to", "127.0.0.1:5201")

		l.ping(version, 1400)
		l.curl(version, n)
		l.iperf(stackIP[version], "5201", 32<<20)
		l.iperf(stackIP[version], "5201", 32<<20, "--reverse")
		p.stop()
		out, _ := p.output()
		if !regexp.MustCompile(`afpacket:dev0: \d+ frames in \([1-9]\d* large(.|\n)*frames out \([1-9]\d* large`).MatchString(out) {
			t.Errorf("no large segments in both directions:\n%s", out)
		}
	})
}

// A device that does not exist is one line that names it.
func TestKernelAFPacketMissing(t *testing.T) {
	l := newVethLab(t, 1500, 1)
	out, err := l.attempt("afpacket:nosuch")
	if err == nil || !regexp.MustCompile(`^plumbline: proxy: afpacket: device nosuch: .*no such device\n$`).MatchString(out) {
		t.Errorf("%v, %q", err, out)
	}
}

// attempt runs a proxy that is expected to end by itself.
func (l *lab) attempt(link string) (stderr string, err error) {
	cmd := exec.Command("plumbline", "proxy", "--link", link, "--address", "10.9.0.2/24", "--listen", "80", "--to", "127.0.0.1:1")
	pipe, err := cmd.StderrPipe()
	if err != nil {
		return "", err
	}
	if err := l.Start(cmd); err != nil {
		return "", err
	}
	b, _ := io.ReadAll(pipe)
	return string(b), cmd.Wait()
}
