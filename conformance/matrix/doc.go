// Package matrix is RFC 9293 section 3.10, "Event Processing", as a table:
// every state, every kind of segment at every edge of the window, every call
// and every timeout, with the answer of a TCP. Each cell of the table is a
// script of its own, as in "matrix/FIN-WAIT-2/FIN", which [Scripts] makes from
// three parts: how the state is reached, the event with its answer, and how the
// state that follows is proved.
//
// # The table
//
// The file table.txt has a block for each event. "##" begins a section of the
// RFC and "#" a comment.
//
//	event FIN-again
//	  title: the FIN of the peer once more
//	  < F. {RCV-1}:{RCV-1}(0) ack {ACK} win 30000
//	  CLOSE-WAIT CLOSING LAST-ACK TIME-WAIT: ack
//
// What happens is a segment, a call ("call: ..."), or nothing but time. "before:"
// is a call beforehand, "with: text in flight" has the TCP send 100 octets first
// in the states in which it may, "after:" is how many seconds the state has lasted,
// and "req:" names requirements. Segments and
// calls are in the language of package script, where
//
//	{RCV}   is RCV.NXT, the sequence number that is expected from the peer
//	{UNA}   is SND.UNA, the oldest that the peer has not acknowledged
//	{NXT}   is SND.NXT, the next that the TCP will send
//	{ACK}   is what the peer acknowledges, so that nothing is new about it:
//	        SND.UNA, and SND.NXT in the states in which only that is acceptable
//	{FD}    is the descriptor of the connection
//	edge    is the right edge of the window that the TCP has offered
//
// each with an offset, as in {RCV-50} and edge+100.
//
// # Answers
//
// An answer is a list of steps with semicolons between them:
//
//	nothing         no segment is sent
//	ack             an ACK at once, of what was acknowledged before
//	ack N           an ACK of N octets more, within half a second
//	ack or nothing  what the RFC leaves open
//	rst             a RST with the sequence number that the segment acknowledges
//	= N             what the call of the event returns
//	= call() = N    another call
//	> ...           a segment, { ... } or { ... } one of several, +T > ... one later
//
// "-> STATE" is the state that follows, where it is another one, and
// "-> A or B" is a choice; "-> any" says that either way of answering leads
// somewhere else.
//
// # Known failures
//
// The file known.txt lists the cells that a stack is known to fail, with the
// reason; they become the expect tags of the scripts.
package matrix
