// Package suite holds the conformance scripts that come with Plumbline, in the
// language of package script. Each is named after what it proves and lies in
// the folder of its topic.
package suite
