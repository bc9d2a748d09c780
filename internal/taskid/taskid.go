// Package taskid makes ids for tasks whose submitter chose none: ULIDs, which sort
// by the time they were made.
//
// The command line makes them before it sends a task, so that it can ask for that
// task, or send it again, when no answer came; the queue makes them for callers who
// send none. A Maker owns its source of randomness. After a crash nothing has to be
// found again: an id that was made and not sent is never seen.
package taskid

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// Maker makes ids, those of one millisecond in order as well. Its zero value is
// ready, and many goroutines may use it.
type Maker struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

// Next returns an id for a task that is submitted now. It fails where the system
// has no randomness to give, or now is beyond the year 10,889.
func (m *Maker) Next(now time.Time) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.entropy == nil {
		m.entropy = ulid.Monotonic(io.Reader(bufio.NewReader(rand.Reader)), 0)
	}
	id, err := ulid.New(ulid.Timestamp(now), m.entropy)
	if err != nil {
		return "", fmt.Errorf("make a task id: %w", err)
	}
	return id.String(), nil
}
