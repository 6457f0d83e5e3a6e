package oracle

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDocument checks that docs/oracle.md has a row for each rule, as it is.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile("../../docs/oracle.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rules() {
		if row := ruleRow(r); !strings.Contains(string(doc), row+"\n") {
			t.Errorf("docs/oracle.md lacks the row\n%s", row)
		}
	}
}

// ruleRow is a rule as a row of the table in the document.
func ruleRow(r Rule) string {
	var needs []string
	if r.Near {
		needs = append(needs, "near")
	}
	if r.Complete {
		needs = append(needs, "complete")
	}
	if r.ID == rules[ruleMSS].ID {
		needs = append(needs, "wire")
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |", r.ID, r.Text, r.Section, strings.Join(needs, ", "))
}
