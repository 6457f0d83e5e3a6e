// Package vnet is what link endpoints on Linux devices share: the virtio-net
// header that precedes each frame on a TAP, TUN or AF_PACKET descriptor
// (VIRTIO 1.2, §5.1.6), and the check of a received packet's checksums that
// allows an endpoint to advertise stack.CapabilityRXChecksumOffload.
//
// All functions are pure: bytes in, verdict out. A stack's NIC sets
// RXChecksumValidated on every packet of an endpoint that advertises the
// capability, so an endpoint may deliver only packets for which Verify says
// Good.
package vnet
