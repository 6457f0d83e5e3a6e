// Package bench measures tcpx beside gVisor's own TCP and beside a transport that does nothing, in one process and one run, over links in memory. It has tests
// and benchmarks only.
//
//	go test -run '^$' -bench . ./tcpx/bench
//
// Every benchmark has the sub-benchmarks tcpx and gvisor, so that a ratio can be read off one run. Bulk has two more. "wire" sends the same packets without
// touching the data: what netstack's IP layer and the link cost. "touch" also does what no transport can avoid on a link without offloads: one copy from the
// user and one to the user, and the checksum at both ends. It is the limit that tcpx is held to.
package bench
