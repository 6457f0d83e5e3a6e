package linkbench

import (
	"encoding/json"
	"strings"
	"testing"
)

// Medians are those of an even and an odd number of rounds, ratios those of the
// medians.
func TestSummarize(t *testing.T) {
	r := &Result{Rounds: 3, Quantities: Quantities[:1], Contenders: []Contender{{Name: "stock"}, {Name: "ours", Against: "stock"}, {Name: "broken", Error: "no device"}}}
	for _, v := range []float64{4, 1, 2} {
		r.Contenders[0].add("rx", v)
	}
	for _, v := range []float64{9, 1, 5, 3} {
		r.Contenders[1].add("rx", v)
	}
	r.summarize()
	stock, ours := r.Contenders[0].Values["rx"], r.Contenders[1].Values["rx"]
	if stock.Median != 2 || stock.Min != 1 || stock.Max != 4 || stock.Ratio != 0 {
		t.Errorf("stock: %+v", stock)
	}
	if ours.Median != 4 || ours.Min != 1 || ours.Max != 9 || ours.Ratio != 2 {
		t.Errorf("ours: %+v", ours)
	}
	var table, js strings.Builder
	if err := r.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.00 × stock", "(1..9)", "not measured: broken: no device", "medians of 3 rounds"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("no %q in\n%s", want, table.String())
		}
	}
	if err := r.WriteJSON(&js); err != nil {
		t.Fatal(err)
	}
	var back Result
	if err := json.Unmarshal([]byte(js.String()), &back); err != nil || back.Contenders[1].Values["rx"].Median != 4 {
		t.Errorf("JSON: %v\n%s", err, js.String())
	}
}
