package testbed

import (
	"cmp"
	"slices"
	"strings"
)

// Sort puts results into an order that depends on nothing but them, so that those of shards, put together, are those of the whole: scenarios in the order of Families and
// their variants, others behind them by name; stacks in the order of Kinds; algorithms from the oldest to the newest.
func Sort(results []*Result) {
	scenarios := make(map[string]int)
	for _, f := range Families() {
		scenarios[f.Name] = len(scenarios) + 1
		for _, v := range f.Variants {
			scenarios[f.Name+"/"+v] = len(scenarios) + 1
		}
	}
	stacks := make(map[string]int)
	for _, k := range Kinds() {
		stacks[k.Name] = len(stacks) + 1
	}
	algorithms := map[string]int{"reno": 1, "cubic": 2, "bbr1": 3, "bbr": 4}
	slices.SortStableFunc(results, func(a, b *Result) int {
		return cmp.Or(
			compareNames(scenarios, a.Scenario, b.Scenario),
			compareNames(stacks, a.Stack, b.Stack),
			cmp.Compare(a.Flows, b.Flows),
			compareNames(algorithms, a.Algorithm, b.Algorithm),
		)
	})
}

// compareNames compares lists of names joined by "+", name by name: known ones by their place, others behind them by the alphabet.
func compareNames(place map[string]int, a, b string) int {
	return slices.CompareFunc(strings.Split(a, "+"), strings.Split(b, "+"), func(a, b string) int {
		return cmp.Or(
			cmp.Compare(uint(place[a])-1, uint(place[b])-1), // 0, unknown, becomes the greatest
			cmp.Compare(a, b),
		)
	})
}
