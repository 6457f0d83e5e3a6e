package congestion

import "time"

// Base has the methods of a Controller that an algorithm may not need; they do nothing. An algorithm embeds it and writes those that remain: Init, OnSignal,
// OnAck, OnRecoveryExit, OnSpurious, Control and Snapshot.
type Base struct{}

// OnSent implements Controller.
func (Base) OnSent(Time, uint64, uint64) {}

// OnLost implements Controller.
func (Base) OnLost(*LossEvent) {}

// OnIdleRestart implements Controller.
func (Base) OnIdleRestart(Time, time.Duration) {}

// OnMSS implements Controller.
func (Base) OnMSS(Time, uint32) {}
