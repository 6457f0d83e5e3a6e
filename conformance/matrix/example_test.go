package matrix_test

import (
	"fmt"

	"github.com/plumbline/plumbline/conformance/matrix"
	"github.com/plumbline/plumbline/conformance/runner"
	"github.com/plumbline/plumbline/conformance/target"
)

// What does this TCP do in FIN-WAIT-2 when the peer's FIN arrives?
func ExampleScripts() {
	scripts, err := matrix.Scripts()
	if err != nil {
		panic(err)
	}
	for _, s := range scripts {
		if s.Name == "matrix/FIN-WAIT-2/FIN" {
			fmt.Println(s.Tags.Title, "-", runner.Run(s, target.TCPX(), 4, runner.Options{}).Verdict)
		}
	}
	// Output: FIN-WAIT-2: the FIN of the peer - PASS
}
