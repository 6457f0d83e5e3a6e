package cubic_test

import (
	"testing"

	"github.com/plumbline/plumbline/congestion/congestiontest"
	"github.com/plumbline/plumbline/congestion/cubic"
)

func TestContract(t *testing.T) { congestiontest.Run(t, cubic.New) }

func FuzzController(f *testing.F) { congestiontest.Fuzz(f, cubic.New) }
