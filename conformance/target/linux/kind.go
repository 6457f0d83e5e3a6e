package linux

import "github.com/plumbline/plumbline/conformance/target"

// Name is how reports and flags call the target.
const Name = "linux"

// Kind returns the kind of target that runs the kernel's TCP. On other systems,
// or without the privileges, instances cannot be opened.
func Kind() target.Kind {
	return target.Kind{
		Name:         Name,
		Description:  "the TCP of the Linux kernel below, in real time",
		Capabilities: capabilities(),
		Open:         open,
	}
}
