// Package script reads test scripts in the language of packetdrill.
//
// A script drives one TCP, the TCP under test, from both sides: it makes the
// system calls of an application, and it plays the peer and the network. Each
// event has a time; the run fails at the first event that does not happen as
// the script says. Parse turns the text into a Script, which a runner
// performs, and every part of it prints itself in the notation of the
// language.
//
//	// A SYN-ACK carries the MSS option.
//	//@ req: MUST-14
//	//@ section: RFC 9293 3.10.7.2
//	   0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
//	  +0 bind(3, ..., ...) = 0
//	  +0 listen(3, 1) = 0
//	  +0 < S 0:0(0) win 65535 <mss 1000>
//	  +0 > S. 0:0(0) ack 1 <mss 1460>
//	 +.1 < . 1:1(0) ack 1 win 65535
//	  +0 accept(3, ..., ...) = 4
//
// # Layout
//
// A script is, in this order: options such as --tolerance_usecs=10000,
// commands for the shell in backquotes, events, and final commands. White
// space separates and has no other meaning. Comments begin with // or stand
// between /* and */. The comment that opens the file is its description; a
// comment above an event, or behind it, explains the event.
//
// The option --define=NAME=VALUE gives a value to a symbol, which is a number,
// a word, a "string" or a `command`. ParseWith takes more of them. A symbol
// in capitals without a value makes its packet unsupported, not the script.
//
// Lines between #ifdef NAME and #endif count if NAME is defined; #ifndef and
// #else are as in C. Each directive stands on a line of its own.
//
// # Times
//
// All times are in seconds.
//
//	+.1          0.1 s after the event before
//	0.1          0.1 s after the start of the script
//	+.1~+.2      at one moment from 0.1 s to 0.2 s after the event before
//	0.1~0.2      the same, from the start
//	*            at some time
//	+.1...0.2    from 0.1 s until 0.2 s after the event before
//	0.1...0.2    the same, from the start
//
// The ranges and * are for outbound packets. The spans, with dots, are for
// system calls that block and return at their end, and for "> none".
//
// # TCP segments
//
// "<" is a segment that arrives at the TCP under test and ">" one that it must
// send:
//
//	< [ect0] P. 1:1001(1000) ack 1 win 257 <nop,nop,TS val 100 ecr 200>
//	> S. 0:0(0) ack 1 win 65535 <mss 1460,nop,nop,sackOK>
//
// First stand the flags: S F R P U E W, A for AE, a dot for ACK, a digit for
// the ACE field of AccECN instead of A, W and E, or - for none. Then come the
// first sequence number, the one behind the last, and the length of the
// payload. The type TCP says how numbers are counted. ack, win and urg may
// follow. An outbound segment without win has any window; an inbound one needs
// it. A segment without a list of options has none, and <...> stands for any.
// The options are:
//
//	mss N  wscale N  sackOK  nop  eol  TS val N ecr N  sack L:R L:R ...
//	FO HEX  FOEXP HEX  md5 HEX  ECN e0b N ceb N e1b N  ECN e1b N ceb N e0b N
//
// In brackets, before the flags, stands what concerns the IP header: noecn,
// ect0, ect1, ce, or ect01 for either of two; tos N or class N; ttl N or hlim
// N; flowlabel N; several are separated by commas. Ports may follow, as in "8080 > 53";
// otherwise they are those of the connection.
//
// # Other packets
//
//	< icmp unreachable frag_needed mtu 1200 [1:1001(1000)]
//	< icmp time_exceeded [udp (100)]
//	> udp 53 > 8080 (100)
//
// An ICMP message has a type, a code, an MTU or an identifier, and the packet
// that it quotes, each optional but for the type. Of the packet the IP header and
// 8 octets are quoted, or as many octets as "cut N" says behind it. A name of ICMP serves for
// ICMPv6 too, and the other way round, where the two correspond; type_N and
// code_N stand for numbers. Packets in tunnels are read but unsupported.
//
// # System calls
//
//	+0 setsockopt(3, SOL_SOCKET, SO_LINGER, {onoff=1, linger=0}, 8) = 0
//	+0...0.2 read(4, ..., 1000) = 1000
//	+0 write(4, ..., 1000) = -1 EAGAIN (Resource temporarily unavailable)
//	+0 poll([{fd=4, events=POLLIN, revents=POLLIN}], 1, 0) = 1
//
// Arguments are numbers, constants, several joined with |, strings, lists in
// brackets, structures in braces, conversions such as htons(8080), and "..."
// for what suits. Constant knows the values of Linux. A result of "..." or
// "?" is any but an error.
//
// # Code
//
// A %{ }% block checks what the system call for TCP_INFO returns at its time:
//
//	+0 %{ assert tcpi_snd_cwnd == 10, tcpi_snd_cwnd }%
//
// packetdrill runs Python. This package knows the part of it that scripts
// need: the statements assert, assignment (=, += and so on) and print,
// separated by newlines or semicolons, over integers of 64 bits with
//
//	or  and  not  in (a, b)  == != < <= > >=  | ^ & << >> + - * / // % ~  abs min max
//
// where comparisons may be chained, and / rounds down as // does. A block
// beyond that is unsupported. A name without a value makes a condition
// undecided, unless the rest of it decides; it never makes one hold.
//
// # Additions to packetdrill
//
// No packet may leave during a span of time. The next event counts from its
// end:
//
//	+0...1.5 > none
//
// A packet may take one of several forms, or be left out, as where a
// specification says MAY:
//
//	+0 > { . 1:1(0) ack 1 } or { R 1:1(0) } or none
//
// What is open in an outbound segment is written so. The sequence numbers may be
// any in "...(0)", and in "0:0(0)!". A window may be compared with !=, <, <=, >
// and >=. The values of mss, wscale, TS and sack may be *. A list of options that
// ends in ",..." may hold more than is listed, in any order:
//
//	+0 > S. 0:0(0) ack 1 win > 0 <mss *,TS val * ecr 100,...>
//
// The content of a payload may be given behind the options:
//
//	+0 < P. 1:6(5) ack 1 win 257 "hello"
//
// Inbound segments can be hostile. In brackets, src and dst replace an
// address; among the fields, doff N forces the data offset, rsv N sets the
// reserved bits and badsum spoils the checksum; among the options, raw is any
// octets:
//
//	+0 < [dst 224.0.0.1] S 0:0(0) win 1000 doff 15 badsum <raw 0x020300>
//
// The sequence numbers of an inbound segment may count from the right edge of
// the window that the target has offered so far, the first that it does not
// accept:
//
//	+0 < P. edge-50:edge+50(100) ack 1 win 1000
//
// # Tags
//
// packetdrill ignores comments; this package reads those that begin with //@:
//
//	//@ title: ...                      a line for readers
//	//@ section: RFC 9293 3.10.7.4      what the script proves
//	//@ req: MUST-13, SHLD-2            the requirements that it covers; repeatable
//	//@ profile: rfc                    or linux: whose behaviour it judges
//	//@ expect: gvisor=fail why         the verdict of a target: pass, fail or unsupported; repeatable
//	//@ ip: both                        or 4, or 6: the versions of IP
//	//@ option: syncookies=on           how to configure the target; repeatable
//
// # Errors
//
// A script comes from anywhere: Parse never panics, bounds the size and depth
// of what it reads, and says file:line:column: and what it expected there.
package script
