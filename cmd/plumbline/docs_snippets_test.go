package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// The snippets of docs/congestion.md that split a sweep are YAML, run all of its parts and no others, and their commands have flags that exist.
func TestShardSnippets(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "congestion.md"))
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]bool{}
	for _, block := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		var doc struct {
			Jobs struct {
				Part struct {
					Strategy struct{ Matrix struct{ Shard []int } }
				}
			}
			Kind string
			Spec struct {
				CompletionMode           string `yaml:"completionMode"`
				Completions, Parallelism int
			}
		}
		if err := yaml.Unmarshal([]byte(block[1]), &doc); err != nil {
			t.Errorf("%v in\n%s", err, block[1])
			continue
		}
		parts := doc.Spec.Completions
		if shards := doc.Jobs.Part.Strategy.Matrix.Shard; len(shards) > 0 {
			for i, s := range shards {
				if s != i+1 {
					t.Errorf("shards %v do not count from 1", shards)
				}
			}
			parts = len(shards)
		}
		for _, c := range regexp.MustCompile(`bench cc (--.*--shard) (.*)/(\d+) --json .*\.json`).FindAllStringSubmatch(block[1], -1) {
			counted[c[2]] = true
			if fmt.Sprint(parts) != c[3] {
				t.Errorf("%d parts, but --shard %s/%s", parts, c[2], c[3])
			}
			args := append(append([]string{"bench", "cc", "--list"}, strings.Fields(c[1])...), "1/"+c[3])
			if status, _, stderr := command(t, args...); status != exitOK {
				t.Errorf("%q: %s", args, stderr)
			}
		}
		if doc.Kind == "Job" && doc.Spec.CompletionMode != "Indexed" {
			t.Error("the pods of the job have no index")
		}
	}
	if !counted["${{ matrix.shard }}"] || !counted["$((JOB_COMPLETION_INDEX + 1))"] || len(counted) != 2 {
		t.Errorf("found %v, want a matrix and an indexed job", counted)
	}
}
