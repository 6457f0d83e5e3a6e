// Package frame is what link endpoints do with single frames: read who they are
// for, wrap them for the stack, and choose a queue for what the stack sends.
package frame
