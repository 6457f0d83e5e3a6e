// Package adapter judges a TCP that lives in another process, whatever language
// it is written in: the process speaks a small protocol of JSON lines on its
// standard input and output, and [Start] makes a [target.Kind] of it. That is
// what `plumbline conform --target exec:COMMAND` does.
//
// docs/adapter.md describes the protocol for people who write such a process.
// For one in Go, [Serve] speaks it for any [target.Kind].
//
// Packets travel in the protocol, in virtual time if the stack can do that, or
// in real time. A stack that is made to run on a TUN device needs neither: with
// Options.TUN, its process runs in a network namespace of its own with a device
// to open, and the protocol carries its system calls only.
//
// What a process answers is not trusted. A line that is no answer, an answer
// that takes too long, or the end of the process ends the run with one line that
// says so; the next run gets a fresh process, and after a few that end in this
// way one after the other there are no more.
package adapter
