package congestion_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/plumbline/plumbline/congestion"
	"github.com/plumbline/plumbline/congestion/reno"
)

func TestRegistry(t *testing.T) {
	if c, ok := congestion.New(reno.Name); !ok || c == nil {
		t.Fatal("reno is not registered")
	}
	if c, ok := congestion.New("no such"); ok || c != nil {
		t.Errorf("New of an unknown name returned %v, %v", c, ok)
	}
	congestion.Register("zz-test", reno.New)
	congestion.Register("aa-test", reno.New)
	names := congestion.Names()
	if !slices.IsSorted(names) || !slices.Contains(names, "aa-test") || !slices.Contains(names, "zz-test") {
		t.Errorf("names are %q", names)
	}
	a, _ := congestion.New(reno.Name)
	b, _ := congestion.New(reno.Name)
	if a == b {
		t.Error("two connections share a controller")
	}
}

func TestRegisterRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		f    func() congestion.Controller
		want string
	}{
		{"", reno.New, "invalid name"},
		{"sixteen-is-long!", reno.New, "invalid name"},
		{"two words", reno.New, "invalid name"},
		{"na\u00efve", reno.New, "invalid name"},
		{"no-factory", nil, "nil factory"},
		{reno.Name, reno.New, "twice"},
	} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(fmt.Sprint(r), c.want) {
					t.Errorf("Register(%q) panicked with %v, want %q", c.name, r, c.want)
				}
			}()
			congestion.Register(c.name, c.f)
		}()
	}
}

func TestRegistryIsSafeForConcurrentUse(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			congestion.Register(fmt.Sprintf("concurrent-%d", i), reno.New)
			congestion.New(reno.Name)
			congestion.Names()
		})
	}
	wg.Wait()
}
