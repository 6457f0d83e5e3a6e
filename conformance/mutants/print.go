package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// row is a mutant and what became of it.
type row struct {
	mutant
	found
}

// print prints the table.
func print(out io.Writer, rows []row, markdown bool) {
	if markdown {
		fmt.Fprint(out, "| mutant | breaks | scripts | oracle | fuzz |\n| --- | --- | --- | --- | --- |\n")
	}
	for _, r := range rows {
		if !markdown {
			fmt.Fprintf(out, "%-40s %v%s\n", r.name, r.found, orNothing(" (cannot be seen: ", r.unseen, ")"))
			continue
		}
		scripts := ""
		if n := len(r.Scripts); n > 0 {
			scripts = fmt.Sprintf("%d: `%s`", n, strings.TrimSuffix(r.Scripts[0], ".pkt"))
		}
		if !r.caught() {
			scripts = "**survives**" + orNothing(": ", r.unseen, "")
		}
		oracle := slices.Sorted(maps.Keys(r.Hard))
		for _, rule := range slices.Sorted(maps.Keys(r.Soft)) {
			oracle = append(oracle, "*"+rule+"*")
		}
		fuzz := r.Fuzz
		if r.Died != "" {
			fuzz = append(fuzz, r.Died)
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s |\n", r.name, r.breaks, scripts, strings.Join(oracle, ", "), strings.Join(fuzz, ", "))
	}
}

// orNothing puts a text between two others, or nothing if there is none.
func orNothing(before, text, after string) string {
	if text == "" {
		return ""
	}
	return before + text + after
}
