// Package recovery holds what a TCP sender remembers to find and repair loss: the queue of sent segments with the SACK scoreboard (RFC 2018, RFC 6675), the
// time-based loss detection of RACK-TLP (RFC 8985), the retransmission timer's estimator (RFC 6298), Proportional Rate Reduction (RFC 9937) and
// the proof that retransmissions were spurious (RFC 3522, RFC 3708). F-RTO (RFC 5682) is a matter of what to send and lives in package tcb.
//
// Nothing here sends, waits or reads a clock. Work per ACK is proportional to the news in it, not to the window: records are found by binary search,
// ranges already SACKed are jumped over, cutting the oldest record moves none of the others, and RACK visits records in the
// order of their transmission until the first that is too young.
package recovery
