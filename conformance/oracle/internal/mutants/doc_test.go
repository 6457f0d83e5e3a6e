package mutants

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestDocument checks that docs/oracle.md has a row for each mutant, as it is.
func TestDocument(t *testing.T) {
	doc, err := os.ReadFile("../../../../docs/oracle.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range All() {
		if row := m.row(t); !strings.Contains(string(doc), row+"\n") {
			t.Errorf("docs/oracle.md lacks the row\n%s", row)
		}
	}
}

// row is a mutant as a row of its table in the document.
func (m *Mutant) row(t *testing.T) string {
	if m.RFC2525 != "" {
		return fmt.Sprintf("| %s | %s | `%s` | %s |", m.RFC2525, m.Title, m.Rule, tierOf(t, m.Rule))
	}
	return fmt.Sprintf("| `%s` | %s | `%s` | %s |", m.Name, m.Title, m.Rule, tierOf(t, m.Rule))
}
