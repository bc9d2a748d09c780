package queue

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
)

// idMaker makes ids for tasks whose submitter chose none: ULIDs, which sort by
// the time they were made, those of one millisecond included.
type idMaker struct {
	mu      sync.Mutex
	entropy *ulid.MonotonicEntropy
}

func (m *idMaker) next(now time.Time) (string, error) {
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
