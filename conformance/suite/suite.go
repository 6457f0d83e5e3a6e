package suite

import (
	"embed"
	"fmt"
	"io/fs"

	"github.com/plumbline/plumbline/conformance/matrix"
	"github.com/plumbline/plumbline/conformance/script"
)

//go:embed */*.pkt
var files embed.FS

// FS returns the scripts as files, named as in "open/active.pkt".
func FS() fs.FS { return files }

// Load returns every script of the suite: the files, in the order of their
// names, and the cells of package matrix.
func Load() ([]*script.Script, error) {
	scripts, err := LoadFS(files)
	if err != nil {
		return nil, err
	}
	cells, err := matrix.Scripts()
	if err != nil {
		return nil, err
	}
	return append(scripts, cells...), nil
}

// LoadFS parses every file of fsys whose name ends in .pkt, in the order of
// their names. An error names the file, the line and the column.
func LoadFS(fsys fs.FS) ([]*script.Script, error) {
	var scripts []*script.Script
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !isScript(name) {
			return err
		}
		src, err := fs.ReadFile(fsys, name)
		if err != nil {
			return fmt.Errorf("read script: %w", err)
		}
		s, err := script.Parse(name, src)
		if err != nil {
			return err
		}
		scripts = append(scripts, s)
		return nil
	})
	return scripts, err
}

// isScript reports whether a file holds a script.
func isScript(name string) bool {
	const suffix = ".pkt"
	return len(name) > len(suffix) && name[len(name)-len(suffix):] == suffix
}
