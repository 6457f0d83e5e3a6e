// Package lifecycle is how link endpoints whose receivers are goroutines of
// their own are attached, detached and closed: the part of stack.LinkEndpoint
// in which endpoints have most faults.
//
// The rules it keeps, all of them under concurrent calls:
//
//   - Attach(nil) and Close do not wait for a delivery, since a stack holds locks
//     there that the delivery may need. Wait does.
//   - The receivers of a session start when those of the one before have
//     returned, so that a queue has one reader at a time.
//   - What the receivers use is released when the endpoint is closed and the
//     last receiver has returned, and not before.
//   - Whatever ends the endpoint, its on-close action runs once, and so does
//     the action for a failure.
package lifecycle
