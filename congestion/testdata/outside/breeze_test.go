package breeze

import (
	"testing"

	"github.com/plumbline/plumbline/congestion/congestiontest"
)

func TestContract(t *testing.T) { congestiontest.Run(t, New) }

func FuzzContract(f *testing.F) { congestiontest.Fuzz(f, New) }
