package queue

import (
	"errors"

	berrors "go.etcd.io/bbolt/errors"
)

// IsClosedForTest says whether a check failed only because the test itself has
// closed the queue.
func IsClosedForTest(err error) bool { return errors.Is(err, berrors.ErrDatabaseNotOpen) }
