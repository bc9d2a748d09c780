package app

import "github.com/dspy-agent/dspy-agent/queue"

// What a Care answers.
type (
	// Verified is what is known of a database.
	Verified = queue.Verified
	// Repaired is what a repair or a restoration has come to.
	Repaired = queue.Repaired
	// Finding is one thing that is wrong with a database.
	Finding = queue.Finding
	// BackupFile is a file that appears under its name once it is whole.
	BackupFile = queue.File
)
