// Package wire encodes and decodes the packets of a conformance run: IPv4 and
// IPv6 packets with TCP, UDP, ICMP or ICMPv6 in them.
//
// It is written to be wrong on purpose when asked: an encoder takes data
// offsets, checksums, options and lengths that no TCP should send. Decoding
// never fails on a packet that a stack could have sent by mistake; it reports
// what is wrong with it instead. It shares no code with any TCP under test.
package wire
