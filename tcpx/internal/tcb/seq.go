package tcb

import "github.com/plumbline/plumbline/tcpx/internal/seq"

// Seq is a sequence number.
type Seq = seq.Num
