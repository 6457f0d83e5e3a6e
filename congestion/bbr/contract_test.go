package bbr_test

import (
	"testing"

	"github.com/plumbline/plumbline/congestion/bbr"
	"github.com/plumbline/plumbline/congestion/congestiontest"
)

func TestContract(t *testing.T) { congestiontest.Run(t, bbr.New) }

func FuzzController(f *testing.F) { congestiontest.Fuzz(f, bbr.New) }
