package linktest

import (
	"context"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// A Peer is the far end of an endpoint's wire. Both methods may be called
// concurrently with each other.
type Peer interface {
	// Send puts a frame, link header included, on the wire. An error means that
	// the medium cannot carry it, which is fine for frames that are malformed.
	Send(frame []byte) error

	// Recv returns the next frame that the endpoint sent, link header included,
	// in the order sent. It returns an error when ctx ends. Frames that the
	// suite did not ask for, as a kernel sends them, are ignored.
	Recv(ctx context.Context) ([]byte, error)
}

// A Factory makes an endpoint that is not attached and the far end of its wire.
// It registers with t.Cleanup what has to be undone, except for the endpoint,
// which the case closes.
type Factory func(t *testing.T) (stack.LinkEndpoint, Peer)

// A KnownFailure is a case that an endpoint is known to fail. It is skipped with
// the reason.
type KnownFailure struct {
	Case   string // its name, as the subtest has it
	Reason string
}

// patience is how long a case waits for something that has to happen before
// it says that it did not. It never waits that long for what should not
// happen.
const patience = 20 * time.Second

// testCase is one clause of the contract.
type testCase struct {
	name string
	run  func(*testing.T, *harness)
}

// cases lists the contract in the order in which a reader would want it.
var cases = []testCase{
	{"Properties", testProperties},
	{"Headers", testHeaders},
	{"Attach", testAttach},
	{"Receive", testReceive},
	{"ReceiveBroadcast", testReceiveBroadcast},
	{"ReceiveOtherHost", testReceiveOtherHost},
	{"ReceiveBadFrames", testReceiveBadFrames},
	{"ReceiveBadChecksums", testReceiveBadChecksums},
	{"ReceiveVLAN", testReceiveVLAN},
	{"ReceiveSegments", testReceiveSegments},
	{"ReceiveFlows", testReceiveFlows},
	{"ReceiveSuper", testReceiveSuper},
	{"ReceiveOverload", testReceiveOverload},
	{"Transmit", testTransmit},
	{"TransmitBatch", testTransmitBatch},
	{"TransmitManyViews", testTransmitManyViews},
	{"TransmitGiant", testTransmitGiant},
	{"TransmitGSO", testTransmitGSO},
	{"Detach", testDetach},
	{"DetachFromDelivery", testDetachFromDelivery},
	{"DetachUnderLoad", testDetachUnderLoad},
	{"Reattach", testReattach},
	{"Close", testClose},
	{"CloseUnattached", testCloseUnattached},
	{"CloseUnderLoad", testCloseUnderLoad},
	{"CloseWithoutDetach", testCloseWithoutDetach},
	{"RemoveNIC", testRemoveNIC},
}

// Run runs every case as a subtest of t on an endpoint of its own.
func Run(t *testing.T, f Factory, known ...KnownFailure) {
	t.Helper()
	reasons := make(map[string]string, len(known))
	for _, k := range known {
		reasons[k.Case] = k.Reason
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if reason, ok := reasons[c.name]; ok {
				t.Skipf("known failure: %s", reason)
			}
			noLeftovers(t)
			ep, peer := f(t)
			h := newHarness(t, ep, peer)
			c.run(t, h)
			h.finish()
		})
		delete(reasons, c.name)
	}
	for name := range reasons {
		t.Errorf("there is no case %q to be known as a failure", name)
	}
}
