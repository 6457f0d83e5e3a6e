package bbr1_test

import (
	"testing"

	"github.com/plumbline/plumbline/congestion/bbr1"
	"github.com/plumbline/plumbline/congestion/congestiontest"
)

func TestContract(t *testing.T) { congestiontest.Run(t, bbr1.New) }

func FuzzController(f *testing.F) { congestiontest.Fuzz(f, bbr1.New) }
