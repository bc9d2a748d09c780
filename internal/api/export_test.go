package api

import "github.com/dspy-agent/dspy-agent/internal/task"

// HTTPStatus is the status of a code; 0 = it has none.
func HTTPStatus(code task.Code) int { return httpTable[code] }

// ErrLeftBehind is for tests of a stop.
var ErrLeftBehind = errLeftBehind
