// Package script reads test scripts in the language of packetdrill.
package script
