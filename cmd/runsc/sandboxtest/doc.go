// Package sandboxtest has nothing but tests: programs in sandboxes of the runsc that PLUMBLINE_RUNSC names talk to the Linux kernel.
package sandboxtest
