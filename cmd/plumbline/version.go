package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// gvisorModule is the module whose version decides what a link endpoint and a
// transport have to look like.
const gvisorModule = "gvisor.dev/gvisor"

// versionInfo is what `plumbline version` reports. The JSON names are stable.
type versionInfo struct {
	Version  string `json:"version"`            // module version, "(devel)" outside a release
	Revision string `json:"revision,omitempty"` // commit, "+dirty" appended if the tree was modified
	Time     string `json:"time,omitempty"`     // of the commit, RFC 3339
	Go       string `json:"go"`                 // toolchain
	Platform string `json:"platform"`           // GOOS/GOARCH
	GVisor   string `json:"gvisor"`             // module version
}

// newVersionCommand builds `plumbline version`.
func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the versions of plumbline, Go and gVisor",
		Example: `  plumbline version
  plumbline version --json | jq -r .gvisor`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			bi, ok := debug.ReadBuildInfo()
			if !ok {
				return fmt.Errorf("version: this binary was built without module information")
			}
			v := versionFrom(bi)
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(v)
			}
			return v.print(cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return cmd
}

// versionFrom picks what matters from the build information.
func versionFrom(bi *debug.BuildInfo) versionInfo {
	v := versionInfo{Version: bi.Main.Version, Go: bi.GoVersion, GVisor: "unknown"}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	settings := make(map[string]string, len(bi.Settings))
	for _, s := range bi.Settings {
		settings[s.Key] = s.Value
	}
	v.Revision = settings["vcs.revision"]
	v.Time = settings["vcs.time"]
	if v.Revision != "" && settings["vcs.modified"] == "true" {
		v.Revision += "+dirty"
	}
	v.Platform = settings["GOOS"] + "/" + settings["GOARCH"]
	for _, dep := range bi.Deps {
		if dep.Path != gvisorModule {
			continue
		}
		v.GVisor = dep.Version
		if dep.Replace != nil {
			v.GVisor = dep.Replace.Path + " " + dep.Replace.Version
		}
	}
	return v
}

// print writes v for people.
func (v versionInfo) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "plumbline %s\n", v.Version)
	for _, row := range [...][2]string{
		{"commit", v.Revision}, {"date", v.Time}, {"go", v.Go}, {"platform", v.Platform}, {"gvisor", v.GVisor},
	} {
		if row[1] != "" && err == nil {
			_, err = fmt.Fprintf(w, "  %-9s %s\n", row[0], row[1])
		}
	}
	return err
}
