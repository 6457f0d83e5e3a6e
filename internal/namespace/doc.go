// Package namespace makes network namespaces that have no name: whatever ends the
// process, the kernel removes them, with the devices and sockets in them.
//
// It is for commands. Tests have package nstest.
package namespace
