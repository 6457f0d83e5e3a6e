// Package scenariofile reads scenarios of the testbed from YAML:
//
//	scenarios:
//	  - name: dsl
//	    about: a download over a DSL line with a deep buffer
//	    duration: 30s
//	    warmup: 10s
//	    forward: {rate: 16Mbit/s, delay: 15ms, queue: {type: fifo, bytes: 200kB}, loss: 0.01%}
//	    reverse: {rate: 2Mbit/s, delay: 15ms}
//	    flows:
//	      - {}                               # each algorithm in turn
//	      - {algorithm: cubic, start: 5s}    # always CUBIC
//
// A flow that names no algorithm or no stack takes each of [testbed.Params] in turn, so that one scenario of a file becomes several of the testbed. All keys are in
// docs/congestion.md.
//
// Durations are Go's ("1.5s", "20ms"). Rates have the units bit/s, kbit/s, Mbit/s and Gbit/s, sizes B, kB, MB, KiB and MiB; probabilities are numbers or per cent
// ("0.5%"). A trace is named relative to the file.
//
// Files are hostile: errors are one line, "file:line: what", and what a file can ask for is bounded.
package scenariofile
