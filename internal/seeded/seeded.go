// Package seeded has the two sources of randomness that a netstack takes, determined by a seed: with them, and a clock in virtual time, a run repeats to the byte.
// They are secure against nobody, which is the point of them. Both may be used concurrently.
package seeded

import (
	"io"
	"math/rand"
	randv2 "math/rand/v2"
	"sync"
)

// Reader returns a source for stack.Options.SecureRNG: initial sequence numbers, ports and keys come from it.
func Reader(seed uint64) io.Reader {
	var key [32]byte
	for i := range 8 {
		key[i] = byte(seed >> (8 * i))
	}
	return &reader{src: randv2.NewChaCha8(key)}
}

type reader struct {
	mu  sync.Mutex
	src *randv2.ChaCha8
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.src.Read(p)
}

// Source returns a source for stack.Options.RandSource.
func Source(seed uint64) rand.Source {
	return &source{src: rand.NewSource(int64(seed))}
}

type source struct {
	mu  sync.Mutex
	src rand.Source
}

// Int63 implements rand.Source.
func (s *source) Int63() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.src.Int63()
}

// Seed implements rand.Source.
func (s *source) Seed(seed int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.src.Seed(seed)
}
