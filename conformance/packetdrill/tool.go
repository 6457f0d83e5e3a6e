package packetdrill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/target/linux"
)

// Outcome is how one run of a script ended.
type Outcome struct {
	// Verdict is runner.Pass, runner.Fail or runner.Unsupported.
	Verdict runner.Verdict
	// Timing says that it failed because something came too early or too late.
	Timing bool
	// Message says in one line what went wrong.
	Message string
}

// Tool is the program packetdrill.
type Tool struct {
	// Path is the file of the program.
	Path string
	// Dir is the directory that the names of scripts are relative to.
	Dir string
	// Patience is how long a script may take, in real time; 0 means two
	// minutes.
	Patience time.Duration
}

// Check returns an error that says why the program cannot be run, or nil.
func (t *Tool) Check() error {
	info, err := os.Stat(t.Path)
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return fmt.Errorf("%s is not a program", t.Path)
	}
	return linux.Check()
}

// Run runs a script in a network namespace of its own, over one version of IP.
func (t *Tool) Run(ctx context.Context, script string, ip runner.IPVersion) Outcome {
	patience := t.Patience
	if patience == 0 {
		patience = 2 * time.Minute
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	program, err := filepath.Abs(t.Path)
	if err != nil {
		return Outcome{Verdict: runner.Fail, Message: err.Error()}
	}
	cmd := exec.CommandContext(ctx, program, append(arguments(ip), path.Base(script))...)
	cmd.WaitDelay = time.Second
	cmd.Dir = filepath.Join(t.Dir, filepath.FromSlash(path.Dir(script)))
	out, err := linux.RunIsolated(cmd)
	switch exit := (*exec.ExitError)(nil); {
	case err == nil:
		return Outcome{Verdict: runner.Pass}
	case ctx.Err() != nil:
		return Outcome{Verdict: runner.Fail, Timing: true, Message: "it did not end within " + patience.String()}
	case !errors.As(err, &exit):
		return Outcome{Verdict: runner.Fail, Message: err.Error()}
	}
	message := complaint(string(out), path.Base(script))
	return Outcome{Verdict: runner.Fail, Timing: strings.Contains(message, "timing error"), Message: message}
}

// complaint picks the line of the output that says what went wrong: the first
// that begins with the name of the script, or the last one.
func complaint(out, script string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if i := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, script+":") }); i >= 0 {
		return strings.TrimSpace(lines[i])
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// arguments are those that packetdrill is started with.
func arguments(ip runner.IPVersion) []string {
	a := runner.CorpusAddrs()
	args := []string{"--send_omit_free", "--ip_version=" + ip.String()}
	if ip == 4 {
		args = append(args, "--local_ip="+a.Local4.String(), "--gateway_ip="+a.Local4.String(),
			"--netmask_ip=255.255.0.0", "--remote_ip="+a.Remote4.String())
	} else {
		args = append(args, "--mtu=1520", "--local_ip="+a.Local6.String(),
			"--gateway_ip="+gateway6, "--remote_ip="+a.Remote6.String())
	}
	defines := runner.CorpusDefines(ip)
	for _, name := range slices.Sorted(maps.Keys(defines)) {
		args = append(args, "-D", name+"="+defines[name])
	}
	return args
}

// gateway6 is the gateway that run_all.py names for IPv6.
const gateway6 = "fd3d:0a0b:17d6:8888::1"
