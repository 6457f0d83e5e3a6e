package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/plumbline/plumbline/conformance/oracle"
)

// checkFlags are the flags of `plumbline check`.
type checkFlags struct {
	json       bool
	ladder     string
	rules      bool
	complete   bool
	wire       bool
	near       []string
	confidence float64
}

// newCheckCommand builds `plumbline check`.
func newCheckCommand() *cobra.Command {
	var f checkFlags
	cmd := &cobra.Command{
		Use:   "check [flags] FILE...",
		Short: "Judge the TCP in packet captures",
		Long: `Check reads captures (pcap or pcapng; - is the standard input), follows every TCP
connection in them, and prints the segments that break a rule of the RFCs.

Findings of the hard tier are proved by the packets. Those of the soft tier are
inferences about timers and windows, each with a confidence. What cannot be
judged is counted and said, not guessed: a capture may have been made anywhere
and may have missed packets. What is known about it makes more rules apply:

  --near ADDR   it was made at this host, so that what the host sends is seen in
                order and all that is seen on its way to the host arrives
  --complete    it has missed no packet
  --wire        packets are as on the wire: no device was to fill in checksums
                or cut segments up, and none had joined them

The exit status is 1 if a rule of the hard tier is broken.`,
		Example: `  # What a capture shows.
  plumbline check trace.pcapng

  # A capture made on the host 192.0.2.1 that dropped nothing.
  plumbline check --near 192.0.2.1 --complete trace.pcap

  # The segments around what is wrong, as arrows between both ends.
  plumbline check --ladder trace.pcapng

  # For a program, with everything that was judged.
  plumbline check --json *.pcap

  # Which rules there are and how often they applied.
  plumbline check --rules trace.pcapng`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.check(cmd.InOrStdin(), cmd.OutOrStdout(), args)
		},
	}
	fl := cmd.Flags()
	fl.BoolVar(&f.json, "json", false, "print JSON: an array with an object for each file")
	fl.StringVar(&f.ladder, "ladder", "", "draw segments as arrows between both ends: those around broken rules, or with --ladder=all every one")
	fl.Lookup("ladder").NoOptDefVal = "broken"
	fl.BoolVar(&f.rules, "rules", false, "print how often each rule applied, not only those that were broken")
	fl.BoolVar(&f.complete, "complete", false, "the captures have missed no packet")
	fl.BoolVar(&f.wire, "wire", false, "packets are as they are on the wire, untouched by offloads")
	fl.StringSliceVar(&f.near, "near", nil, "addresses of hosts that the captures were made at, or all")
	fl.Float64Var(&f.confidence, "confidence", 0.5, "the least confidence of a soft finding that is printed, from 0 to 1")
	return cmd
}

// checkedFile is what --json prints of one file.
type checkedFile struct {
	File string `json:"file"`
	*oracle.Report
}

// check runs the command. A file that cannot be read, or is malformed, ends it
// after the report of what was readable.
func (f *checkFlags) check(in io.Reader, out io.Writer, files []string) error {
	opt, err := f.options()
	if err != nil {
		return err
	}
	if err := f.readTwice(files); err != nil {
		return err
	}
	broken := false
	checked := []checkedFile{}
	var unreadable error
	for _, name := range files {
		rep, err := checkFile(name, in, opt)
		if err != nil {
			unreadable = usageErrorf("check: %s: %w", name, withoutPath(err))
		}
		if rep == nil {
			break
		}
		broken = broken || rep.Broken(oracle.Hard) > 0
		checked = append(checked, checkedFile{name, rep})
		if !f.json {
			if err := f.print(out, name, len(files) > 1, rep, opt); err != nil {
				return err
			}
		}
		if unreadable != nil {
			break
		}
	}
	if f.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(checked); err != nil {
			return err
		}
	}
	switch {
	case unreadable != nil:
		return unreadable
	case broken:
		return &checkFailed{}
	}
	return nil
}

// readTwice refuses what --ladder cannot read a second time.
func (f *checkFlags) readTwice(files []string) error {
	if f.ladder == "" {
		return nil
	}
	for _, name := range files {
		if info, err := os.Stat(name); name == "-" || err == nil && !info.Mode().IsRegular() {
			return usageErrorf("check: %s: --ladder reads twice, which needs a regular file", name)
		}
	}
	return nil
}

// print prints the report of one file for people.
func (f *checkFlags) print(out io.Writer, name string, withName bool, rep *oracle.Report, opt oracle.Options) error {
	if withName {
		fmt.Fprintf(out, "%s:\n", name)
	}
	if f.ladder != "" {
		if err := f.drawLadder(out, name, rep, opt); err != nil {
			return err
		}
	}
	return rep.Text(out, oracle.TextOptions{Confidence: f.confidence, Rules: f.rules})
}

// ladderBefore and ladderAfter are how many segments of a connection are drawn
// around one that breaks a rule.
const (
	ladderBefore = 8
	ladderAfter  = 3
)

// drawLadder reads the file again and draws it. The second reading keeps nothing
// of what it draws, so that a file may be of any length.
func (f *checkFlags) drawLadder(out io.Writer, name string, rep *oracle.Report, opt oracle.Options) error {
	shown := slices.DeleteFunc(slices.Clone(rep.Findings), func(x oracle.Finding) bool { return x.Confidence < f.confidence })
	buffered := bufio.NewWriter(out)
	ladder := oracle.NewLadder(buffered, shown)
	if f.ladder == "broken" {
		if len(shown) == 0 {
			return nil
		}
		ladder.Only(ladderBefore, ladderAfter)
	}
	opt.Observe = ladder.Draw
	if again, err := checkFile(name, nil, opt); again == nil {
		return usageErrorf("check: %s: %w", name, withoutPath(err))
	}
	fmt.Fprintln(buffered)
	return errors.Join(ladder.Err(), buffered.Flush())
}

// options turns the flags into those of the oracle.
func (f *checkFlags) options() (oracle.Options, error) {
	opt := oracle.Options{Complete: f.complete, Wire: f.wire}
	if !(f.confidence >= 0 && f.confidence <= 1) { // NaN is none.
		return opt, usageErrorf("check: --confidence %v is not within 0 and 1", f.confidence)
	}
	if f.ladder != "" && f.ladder != "broken" && f.ladder != "all" {
		return opt, usageErrorf("check: --ladder %q is neither broken nor all", f.ladder)
	}
	if f.ladder != "" && f.json {
		return opt, usageErrorf("check: give --ladder or --json, not both")
	}
	for _, a := range f.near {
		if a == "all" {
			opt.NearAll = true
			continue
		}
		addr, err := netip.ParseAddr(a)
		if err != nil {
			return opt, usageErrorf("check: --near %q is neither an IP address nor all", a)
		}
		opt.Near = append(opt.Near, addr)
	}
	return opt, nil
}

// checkFile judges one file, or the standard input.
func checkFile(name string, in io.Reader, opt oracle.Options) (*oracle.Report, error) {
	if name == "-" {
		return oracle.Check(bufio.NewReader(in), opt)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return oracle.Check(file, opt)
}

// withoutPath drops the name of the file from an error, which the caller says.
func withoutPath(err error) error {
	var pe *os.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}
