package suite_test

import (
	"testing"

	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/suite"
	"github.com/plumbline/plumbline/conformance/target"
)

func TestScripts(t *testing.T) {
	scripts, err := suite.Load()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range scripts {
		for _, ip := range []runner.IPVersion{4, 6} {
			res := runner.Run(s, target.GVisor(), ip, runner.Options{})
			t.Logf("%s %s %s", res.Name(), res.Verdict, res.Reason)
			if !res.Verdict.OK() {
				t.Errorf("%+v", res.Failure)
				for _, e := range res.Trace {
					t.Log(e)
				}
			}
		}
	}
}
