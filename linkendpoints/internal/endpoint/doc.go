// Package endpoint has what the endpoints on a device of this machine have in
// common as a stack.LinkEndpoint: an MTU, an Ethernet address, Ethernet headers,
// and a life that they leave to package lifecycle.
//
// Each endpoint embeds Ethernet under an unexported alias, so that its methods
// become the endpoint's and nothing else does, and has methods of its own where
// its device differs.
package endpoint
