package engine

import "github.com/dspy-agent/dspy-agent/internal/failpoint"

// The places between the engine's steps where a crash test dies.
var _ = failpoint.Declare(
	"engine/before-commit", "engine/after-commit",
	"engine/before-launch", "engine/after-launch",
	"engine/before-stop", "engine/after-stop",
	"engine/before-forget",
)
