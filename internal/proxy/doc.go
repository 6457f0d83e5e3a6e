// Package proxy terminates TCP in a netstack of its own and relays each
// connection to a socket of the host, or the other way round. It is what
// `plumbline proxy` runs: a real peer for the transport under test, and a small
// example of embedding it.
//
// A Proxy owns a stack with one NIC on a link endpoint. Listen rules accept in
// the netstack and dial on the host; dial rules accept on the host and dial in
// the netstack. What ends a connection on one side, ends it in the same way on
// the other (package relay).
package proxy
