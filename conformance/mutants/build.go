package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// mutant is one edit of the sources.
type mutant struct {
	// name says what the faulty TCP does.
	name string
	// file is the file that is edited, relative to the root of the module.
	file string
	// old is a text that occurs once in it, new what stands in its place.
	old, new string
	// breaks is the rule that is broken.
	breaks string
	// unseen, if not empty, is why no packet can show the fault.
	unseen string
}

// apply edits the source.
func (m *mutant) apply(src []byte) ([]byte, error) {
	if n := bytes.Count(src, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("%s has the text to edit %d times, not once", m.file, n)
	}
	return bytes.Replace(src, []byte(m.old), []byte(m.new), 1), nil
}

// builder builds this program from mutated sources.
type builder struct {
	root, dir string
}

// newBuilder finds the module, which has to be that of the current directory.
func newBuilder() (*builder, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mutants")
	return &builder{root, dir}, err
}

// moduleRoot is the directory of this module.
func moduleRoot() (string, error) {
	const module = "github.com/plumbline/plumbline"
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if err != nil {
		return "", fmt.Errorf("the current directory is not in a checkout of %s: %w", module, err)
	}
	return strings.TrimSpace(string(out)), nil
}

func (b *builder) close() { os.RemoveAll(b.dir) }

// build builds this program with a mutant in it, or without any if m is nil, and returns the path of it.
func (b *builder) build(ctx context.Context, m *mutant) (string, error) {
	program := filepath.Join(b.dir, "judge")
	args := []string{"build", "-ldflags=-s -w", "-o", program}
	if m != nil {
		overlay, err := b.overlay(m)
		if err != nil {
			return "", err
		}
		args = append(args, "-overlay", overlay)
	}
	cmd := exec.CommandContext(ctx, "go", append(args, "./conformance/mutants")...)
	cmd.Dir = b.root
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, text)
	}
	return program, nil
}

// overlay writes the edited file and the description that `go build` wants.
func (b *builder) overlay(m *mutant) (string, error) {
	original := filepath.Join(b.root, filepath.FromSlash(m.file))
	src, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	if src, err = m.apply(src); err != nil {
		return "", err
	}
	edited, overlay := filepath.Join(b.dir, "edited.go"), filepath.Join(b.dir, "overlay.json")
	if err := os.WriteFile(edited, src, 0o666); err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]map[string]string{"Replace": {original: edited}})
	if err != nil {
		return "", err
	}
	return overlay, os.WriteFile(overlay, text, 0o666)
}
