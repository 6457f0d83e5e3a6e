package reno_test

import (
	"testing"

	"github.com/plumbline/plumbline/congestion/congestiontest"
	"github.com/plumbline/plumbline/congestion/reno"
)

func TestContract(t *testing.T) { congestiontest.Run(t, reno.New) }

func FuzzController(f *testing.F) { congestiontest.Fuzz(f, reno.New) }
