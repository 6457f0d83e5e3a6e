package runner

import (
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/plumbline/plumbline/conformance/script"
	"github.com/plumbline/plumbline/conformance/target"
)

// maxSource is the longest file that a command may name, in bytes.
const maxSource = 1 << 20

// command performs a command in backquotes. Settings by sysctl are applied to the
// target, and files that consist of them are read, without a shell. Anything
// else is unsupported, unless Options.Shell lets a shell run it.
func (r *run) command(c *script.Command) error {
	err := r.shell(c.Text, path.Dir(r.script.Name), false)
	if r.hasShell() && target.IsUnsupported(err) != nil {
		return r.inShell(r.target.(target.Host), c)
	}
	if err == nil && r.event != nil {
		r.log(Other, nil, c.String())
	}
	return err
}

// hasShell reports whether commands can be run in a shell.
func (r *run) hasShell() bool {
	_, isHost := r.target.(target.Host)
	return isHost && r.opt.Shell != ""
}

// inShell runs a command in a shell. As in packetdrill, one that fails ends the
// script.
func (r *run) inShell(host target.Host, c *script.Command) error {
	dir := filepath.Join(r.opt.Shell, filepath.FromSlash(path.Dir(r.script.Name)))
	if err := host.Command(dir, c.Text); err != nil {
		return r.failf("the command failed: %v", err)
	}
	if r.event != nil {
		r.log(Other, nil, c.String())
	}
	return nil
}

// cleanUp runs the final commands of the script, if commands are run at all.
func (r *run) cleanUp() {
	if !r.hasShell() {
		return
	}
	for _, c := range r.script.Cleanup {
		if err := r.shell(c.Text, path.Dir(r.script.Name), true); target.IsUnsupported(err) == nil {
			continue
		}
		if err := r.inShell(r.target.(target.Host), c); err != nil {
			r.note("a final command: %v", err)
		}
	}
}

// shell performs lines of commands. Dir is where relative names start. Of a
// profile, a file with settings that many scripts share, those that the target
// cannot express are noted and left alone: few scripts depend on each of them.
func (r *run) shell(text, dir string, profile bool) error {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.SplitSeq(text, "\n") {
		if done, err := r.sockstat(line); err != nil {
			return err
		} else if done {
			continue
		}
		for cmd := range splitCommands(line) {
			if err := r.alternatives(cmd, dir, profile); err != nil {
				return err
			}
		}
	}
	return nil
}

// alternatives performs the first of commands joined by "||" that the target
// can.
func (r *run) alternatives(list, dir string, profile bool) (err error) {
	for cmd := range strings.SplitSeq(list, "||") {
		words, ok := shellWords(cmd)
		if !ok {
			return target.Unsupportedf("the command %q", cmd)
		}
		if err = r.shellCommand(words, dir, profile); target.IsUnsupported(err) == nil {
			return err
		}
	}
	return err
}

// splitCommands yields the commands of a line, without comments.
func splitCommands(line string) func(func(string) bool) {
	return func(yield func(string) bool) {
		line := strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") {
			return
		}
		for _, cmd := range strings.FieldsFunc(strings.ReplaceAll(line, "&&", ";"), func(c rune) bool { return c == ';' }) {
			if cmd = strings.TrimSpace(cmd); cmd != "" && !yield(cmd) {
				return
			}
		}
	}
}

// shellWords splits a command into words as a shell does: quotes group,
// $((A*B)) multiplies, redirections are dropped. It reports false for what it
// does not understand.
func shellWords(cmd string) ([]string, bool) {
	var words []string
	var word strings.Builder
	inWord, quote := false, byte(0)
	for i := 0; i < len(cmd); i++ {
		c := cmd[i]
		switch {
		case strings.HasPrefix(cmd[i:], "$(("):
			end := strings.Index(cmd[i:], "))")
			if end < 0 {
				return nil, false
			}
			v, ok := product(cmd[i+3 : i+end])
			if !ok {
				return nil, false
			}
			word.WriteString(v)
			inWord = true
			i += end + 1
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, inWord = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if inWord {
				words = append(words, word.String())
			}
			word.Reset()
			inWord = false
		case quote == 0 && c == '#' && !inWord:
			i = len(cmd)
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return dropRedirections(words), quote == 0
}

// product evaluates A*B*....
func product(expr string) (string, bool) {
	n := int64(1)
	for f := range strings.SplitSeq(expr, "*") {
		v, err := strconv.ParseInt(strings.TrimSpace(f), 0, 32)
		if err != nil || v != 0 && n > 1<<40/v {
			return "", false
		}
		n *= v
	}
	return strconv.FormatInt(n, 10), true
}

// dropRedirections removes "> file", "2>&1" and the like from a command.
func dropRedirections(words []string) []string {
	var out []string
	for i := 0; i < len(words); i++ {
		w := strings.TrimLeft(words[i], "12&")
		switch {
		case w == ">" || w == ">>":
			i++
		case strings.HasPrefix(w, ">"):
		default:
			out = append(out, words[i])
		}
	}
	return out
}

// harmless are commands that change nothing a target has.
var harmless = map[string]bool{
	"tcpdrop": true, "true": true, "sleep": true, "echo": true, "modprobe": true, ":": true, "set": true,
}

// shellCommand performs one command.
func (r *run) shellCommand(words []string, dir string, profile bool) error {
	if len(words) == 0 || harmless[words[0]] {
		return nil
	}
	name := path.Base(words[0])
	switch {
	case name == "sysctl":
		return r.sysctl(words[1:], profile)
	case name == "set_sysctls.py":
		return r.sysctl(words[1:], profile)
	case strings.HasPrefix(name, "sysctl_restore"):
		return nil
	case !profile && r.hasShell() && (name == "ip" || name == "tc"):
		return target.Unsupportedf("the command %q", strings.Join(words, " ")) // the shell's to run
	case name == "ip" && len(words) > 2 && words[1] == "tcp_metrics" && words[2] == "flush":
		if t, ok := r.target.(target.Forgetful); ok {
			t.Forget()
		}
		return nil
	case linkMTU(words) != 0 && linkMTU(words) == r.interfaceMTU():
		return nil // prepare has read it.
	case name == "tc" && (profile || len(words) > 2 && words[1] == "qdisc" && strings.HasPrefix(words[2], "del")):
		return nil // There is no queueing discipline to choose or to remove.
	case name == "ethtool" && len(words) > 1 && words[1] == "-K":
		return nil // Targets have no offloads.
	case strings.HasSuffix(name, ".sh"):
		return r.source(path.Join(dir, words[0]))
	}
	return target.Unsupportedf("the command %q", strings.Join(words, " "))
}

// linkMTU returns the MTU that "ip link set dev NAME mtu N" gives to the
// interface, of which there is one, or 0 for another command.
func linkMTU(words []string) int {
	if len(words) != 7 || strings.Join(words[:4], " ") != "ip link set dev" || words[5] != "mtu" {
		return 0
	}
	n, err := strconv.ParseUint(words[6], 10, 16)
	if err != nil || n < 68 {
		return 0
	}
	return int(n)
}

// readMTU takes over the MTU that a command before the first event gives to the
// interface: targets have it from the start.
func (r *run) readMTU() {
	for _, c := range r.script.Init {
		for line := range strings.SplitSeq(c.Text, "\n") {
			if n := linkMTU(strings.Fields(line)); n != 0 {
				r.mtu = n
			}
		}
	}
}

// sysctl applies settings of the form name=value.
func (r *run) sysctl(args []string, profile bool) error {
	for _, a := range args {
		if strings.HasPrefix(a, "-") {
			continue
		}
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			return target.Unsupportedf("the sysctl argument %q", a)
		}
		name = strings.ReplaceAll(strings.TrimPrefix(name, "/proc/sys/"), "/", ".")
		err := r.configureAs(setting{strings.TrimSpace(name), strings.TrimSpace(value)})
		if err != nil && (!profile || target.IsUnsupported(err) == nil) {
			return err
		}
		if err != nil {
			r.note("not applied: %v", err)
		}
	}
	return nil
}

// configureAs applies a setting of Linux or FreeBSD.
func (r *run) configureAs(s setting) error {
	list, err := translate(s)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := r.target.Configure(s.name, s.value); err != nil {
			return err
		}
	}
	return nil
}

// source performs a file of commands.
func (r *run) source(name string) error {
	if r.opt.ReadFile == nil {
		return &target.UnsupportedError{What: "the command " + name, Why: "no files are at hand"}
	}
	text, err := r.opt.ReadFile(name)
	switch {
	case err != nil:
		return &target.UnsupportedError{What: "the command " + name, Why: err.Error()}
	case len(text) > maxSource:
		return &target.UnsupportedError{What: "the command " + name, Why: "the file is larger than 1 MiB"}
	}
	return r.shell(string(text), path.Dir(name), true)
}
