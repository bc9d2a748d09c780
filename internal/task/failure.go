package task

import (
	"fmt"
	"time"
)

// FailureClass says what kind of trouble ended an attempt. Each class has a
// retry budget of its own, so that trouble of the machines does not use up the
// retries that the user asked for.
type FailureClass uint8

// The classes. The numbers are stored; new ones go at the end.
const (
	NoFailure        FailureClass = iota
	UserError                     // the program ended with a non-zero code or by a signal of its own
	Timeout                       // it ran longer than its time limit
	OutOfMemory                   // the kernel or the backend killed it for its memory
	GPULost                       // a GPU it held failed under it
	ImageTrouble                  // its container image could not be had
	CouldNotStart                 // the backend could not start it
	NodeLost                      // the machine it ran on went away
	Preempted                     // a job with more right to the resources took them
	DependencyFailed              // a task it waits for ended the wrong way
	Vanished                      // it was started, and nobody saw how it ended
	Damaged                       // what was stored about it cannot be read any more
	classCount
)

var failureNames = [classCount]string{
	"", "user_error", "timeout", "out_of_memory", "gpu_lost", "image", "could_not_start",
	"node_lost", "preempted", "dependency_failed", "vanished", "damaged",
}

// String returns the name that people and JSON see; "" for NoFailure.
func (c FailureClass) String() string {
	if c < classCount {
		return failureNames[c]
	}
	return fmt.Sprintf("failure(%d)", uint8(c))
}

// FailureClasses lists every class but NoFailure.
func FailureClasses() []FailureClass {
	out := make([]FailureClass, 0, classCount-1)
	for c := UserError; c < classCount; c++ {
		out = append(out, c)
	}
	return out
}

// Users says whether a failure of this class counts against the retries that
// the user asked for: it is the program's own doing.
func (c FailureClass) Users() bool { return c == UserError || c == Timeout || c == OutOfMemory }

// infraBudget is how many attempts each class of infrastructure trouble may
// cost before it ends the task. They are fixed numbers, since nobody can say in
// advance how often their machines will fail; they only stop an endless loop. A
// machine that cannot start anything, since a disk is full, say, is given about
// an hour, or it would burn a whole backlog before somebody comes.
var infraBudget = [classCount]int{
	GPULost: 3, ImageTrouble: 3, CouldNotStart: 20, NodeLost: 3, Preempted: 20,
	DependencyFailed: 0, Damaged: 0,
	Vanished: 3, // only when the task's OnLost is LostRetry
}

// Budget returns how many retries the class has in a task with that spec.
func (c FailureClass) Budget(s *Spec) int {
	switch {
	case c.Users():
		return s.Retries
	case c == Vanished && s.OnLost != LostRetry:
		return 0
	case c < classCount:
		return infraBudget[c]
	default:
		return 0
	}
}

// Backoff of retries: the first after BackoffBase, each further one twice as
// long, never more than BackoffCap, and up to a quarter more or less so that
// tasks that failed together do not come back together.
const (
	BackoffBase = time.Second
	BackoffCap  = 5 * time.Minute
)

// backoff returns how long to wait before the attempt that follows the n-th
// retry (from 1). The jitter is a hash of the task and the attempt and not a
// random number, so that Apply stays a function.
func backoff(s *Spec, seq Seq, attempt, n int) time.Duration {
	base, limit := s.BackoffBase, s.BackoffCap
	if base <= 0 {
		base = BackoffBase
	}
	if limit <= 0 {
		limit = max(BackoffCap, base)
	}
	d := base
	for i := 1; i < n && d < limit; i++ {
		d *= 2
	}
	d = min(d, limit)
	quarter := int64(d) / 4
	if quarter == 0 {
		return d
	}
	return d - time.Duration(quarter) + time.Duration(int64(mix(uint64(seq)<<16^uint64(attempt))%uint64(2*quarter)))
}

// mix is the finaliser of splitmix64: it spreads near inputs over all outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
