package e2e

import "time"

// eventually waits for something that nobody announces.
func (w *world) eventually(limit time.Duration, what string, cond func() bool) {
	w.Helper()
	deadline := time.Now().Add(limit)
	for !cond() {
		if time.Now().After(deadline) {
			w.Fatalf("%s: not after %s", what, limit)
		}
		pauseFor(5 * time.Millisecond)
	}
}

// pauseFor spaces out looks at something outside this process.
func pauseFor(d time.Duration) {
	<-time.After(d) // polls
}
