// Package runner runs conformance scripts (package script) against targets
// (package target) and judges what they do, packet by packet.
package runner
