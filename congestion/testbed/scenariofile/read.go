package scenariofile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/plumbline/plumbline/congestion/testbed"
)

// The limits of a file.
const (
	maxBytes     = 1 << 20
	maxScenarios = 1000
	maxDepth     = 100
)

// Error is a mistake in a file.
type Error struct {
	// File is the name as it was given, and Line counts from 1; 0 means the file as a whole.
	File string
	Line int
	Err  error
}

// Error returns one line that names file, line and mistake.
func (e *Error) Error() string {
	text := strings.Join(strings.Fields(e.Err.Error()), " ")
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, text)
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, text)
}

// Unwrap returns the mistake.
func (e *Error) Unwrap() error { return e.Err }

// Load reads the scenarios of a file for the stack and the algorithms of p. Errors in what the file says are of type *Error.
func Load(name string, p testbed.Params) ([]*testbed.Scenario, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && !info.Mode().IsRegular() {
		return nil, &Error{File: name, Err: errors.New("not a regular file")}
	}
	return Read(name, f, p)
}

// Read does what Load does with the text of a file. Traces are looked for beside name.
func Read(name string, r io.Reader, p testbed.Params) ([]*testbed.Scenario, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxBytes+1))
	if err != nil {
		return nil, &Error{File: name, Err: err}
	}
	if len(text) > maxBytes {
		return nil, &Error{File: name, Err: fmt.Errorf("more than %d bytes", maxBytes)}
	}
	if line := tooDeep(text); line > 0 {
		return nil, &Error{File: name, Line: line, Err: fmt.Errorf("nested deeper than %d", maxDepth)}
	}
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, syntaxError(name, err)
	}
	d := &document{name: name, dir: filepath.Dir(name), params: p}
	if err := d.read(file); err != nil {
		return nil, err
	}
	return d.scenarios, nil
}

// tooDeep returns the first line on which brackets or indentation nest too deep for a parser that recurses, 0 if there is none.
func tooDeep(text []byte) int {
	line, depth, indent, start := 1, 0, 0, true
	for _, c := range text {
		switch c {
		case '\n':
			line, indent, start = line+1, 0, true
			continue
		case '[', '{':
			depth++
		case ']', '}':
			depth = max(depth-1, 0)
		case ' ', '-', '?', ':':
			// Each of these may open another level at the start of a line.
			if start {
				indent++
			}
		default:
			start = false
		}
		if depth > maxDepth || indent > 2*maxDepth {
			return line
		}
	}
	return 0
}

// syntaxError makes one line of what the parser says.
func syntaxError(name string, err error) error {
	var syntax yaml.Error
	if errors.As(err, &syntax) && syntax.GetToken() != nil && syntax.GetToken().Position != nil {
		return &Error{File: name, Line: syntax.GetToken().Position.Line, Err: errors.New(syntax.GetMessage())}
	}
	return &Error{File: name, Err: err}
}

// document is a file under way.
type document struct {
	name, dir string
	params    testbed.Params
	scenarios []*testbed.Scenario
}

// decode stores the value of a key.
type decode func(ast.Node) error

// at puts the place of a node to an error, unless it has one.
func (d *document) at(n ast.Node, err error) error {
	var placed *Error
	if err == nil || errors.As(err, &placed) {
		return err
	}
	line := 0
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		line = n.GetToken().Position.Line
	}
	return &Error{File: d.name, Line: line, Err: err}
}

func (d *document) read(file *ast.File) error {
	docs := slices.DeleteFunc(slices.Clone(file.Docs), func(doc *ast.DocumentNode) bool { return doc == nil || doc.Body == nil })
	switch len(docs) {
	case 0:
		return &Error{File: d.name, Err: errors.New("no scenarios")}
	case 1:
	default:
		return d.at(docs[1].Body, errors.New("a second document; a file has one"))
	}
	body := docs[0].Body
	err := d.mapping(body, "a file", map[string]decode{"scenarios": func(n ast.Node) error {
		return d.sequence(n, func(n ast.Node) error { return d.scenario(n) })
	}})
	if err == nil && len(d.scenarios) == 0 {
		err = d.at(body, errors.New("no scenarios"))
	}
	return err
}

// mapping decodes a mapping whose keys are known.
func (d *document) mapping(n ast.Node, what string, keys map[string]decode) error {
	var values []*ast.MappingValueNode
	switch n := n.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	default:
		return d.at(n, fmt.Errorf("%s has keys: %s", what, known(keys)))
	}
	seen := make(map[string]bool)
	for _, v := range values {
		key, err := scalar(v.Key)
		if err != nil {
			return d.at(v.Key, errors.New("a key is one word"))
		}
		set, ok := keys[key]
		switch {
		case !ok:
			return d.at(v.Key, fmt.Errorf("unknown key %.40q; %s has %s", key, what, known(keys)))
		case seen[key]:
			return d.at(v.Key, fmt.Errorf("key %q twice", key))
		}
		seen[key] = true
		if err := set(v.Value); err != nil {
			var placed *Error
			if !errors.As(err, &placed) {
				err = fmt.Errorf("%s: %w", key, err)
			}
			return d.at(v.Key, err)
		}
	}
	return nil
}

// known lists keys for people.
func known(keys map[string]decode) string {
	return strings.Join(slices.Sorted(maps.Keys(keys)), ", ")
}

// sequence decodes each element of a list.
func (d *document) sequence(n ast.Node, element decode) error {
	s, ok := n.(*ast.SequenceNode)
	if !ok {
		return errors.New("a list is wanted")
	}
	for _, v := range s.Values {
		if err := element(v); err != nil {
			return d.at(v, err)
		}
	}
	return nil
}
