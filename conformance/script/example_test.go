package script_test

import (
	"fmt"

	"github.com/plumbline/plumbline/conformance/script"
)

// A script that does not parse says where.
func ExampleParse() {
	s, err := script.Parse("syn.pkt", []byte(`// Test that a SYN is answered.
//@ req: MUST-14
+0 < S 0:0(0) win 1000 <mss 1000>
+0 > S. 0:0(0) ack 1 <mss 1460>
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Description, s.Tags.Requirements)
	for _, e := range s.Events {
		fmt.Println(e)
	}

	_, err = script.Parse("bad.pkt", []byte("+0 < S 0:0(0) win 70000\n"))
	fmt.Println(err)
	// Output:
	// Test that a SYN is answered. [MUST-14]
	// +0 < S 0:0(0) win 1000 <mss 1000>
	// +0 > S. 0:0(0) ack 1 <mss 1460>
	// bad.pkt:1:19: the window is out of range: 70000 is not within 0 and 65535
}

// A condition that depends on what the target cannot tell does not hold.
func ExampleFormula_Eval() {
	info := func(name string) (int64, bool) { return 10, name == "tcpi_snd_cwnd" }
	for _, src := range []string{"tcpi_snd_cwnd == 10", "tcpi_lost == 0"} {
		f, err := script.ParseExpr("x", src)
		if err != nil {
			fmt.Println(err)
			return
		}
		value, unknown, err := f.Eval(info)
		fmt.Println(f, value, unknown, err)
	}
	// Output:
	// tcpi_snd_cwnd == 10 1 [] <nil>
	// tcpi_lost == 0 0 [tcpi_lost] <nil>
}
