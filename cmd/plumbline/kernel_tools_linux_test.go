package main

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
)

// serveHTTP serves n bytes of pattern over HTTP on the host and returns its
// address.
func (l *lab) serveHTTP(n int64) string {
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.Copy(w, pattern(n))
	})}
	listener := l.Listen(l.t, "tcp", "127.0.0.1:0")
	go server.Serve(listener)
	l.t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

// curl fetches what serveHTTP serves from port 80 of the netstack.
func (l *lab) curl(version string, n int64) {
	l.t.Helper()
	file := filepath.Join(l.t.TempDir(), "file")
	l.Run(l.t, "curl", "--silent", "--show-error", "--fail", "--max-time", "60", "--output", file,
		"http://"+net.JoinHostPort(stackIP[version], "80")+"/")
	f, err := os.Open(file)
	if err != nil {
		l.t.Fatal(err)
	}
	defer f.Close()
	if got, m, err := sum(f); err != nil || got != wantSum(n) {
		l.t.Errorf("curl got %d bytes that are not the %d sent, %v", m, n, err)
	}
}

// iperf sends n bytes to an iperf3 server, or from it with "--reverse" in
// options, and logs how fast. At least half must arrive: what is in buffers when
// all is sent is lost, since iperf3 resets. So n has to be well above what
// buffers hold, tens of megabytes.
func (l *lab) iperf(host, port string, n int, options ...string) {
	l.t.Helper()
	out := l.Run(l.t, "iperf3", append([]string{"--client", host, "--port", port, "--bytes", strconv.Itoa(n), "--json"}, options...)...)
	var result struct {
		End struct {
			Received struct {
				Bytes int64
				Rate  float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		l.t.Fatalf("iperf3 %v: %v in %s", options, err, out)
	}
	if got := result.End.Received.Bytes; got < int64(n)/2 {
		l.t.Errorf("iperf3 %v received %d bytes of %d", options, got, n)
	}
	l.t.Logf("iperf3 to %s %v: %5.2f Gbit/s", host, options, result.End.Received.Rate/1e9)
}
