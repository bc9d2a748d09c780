package app

import "github.com/dspy-agent/dspy-agent/queue"

// What a Care answers.
type (
	// Verified is what is known of a database.
	Verified = queue.Verified
	// Repaired is what a repair or a restoration has come to.
	Repaired = queue.Repaired
	// Compacted is what a compaction has come to.
	Compacted = queue.Compacted
	// Copied is a copy of a database.
	Copied = queue.Copied
	// Kept is where a backup is.
	Kept = queue.Kept
	// Finding is one thing that is wrong with a database.
	Finding = queue.Finding
	// BackupFile is a file that appears under its name once it is whole.
	BackupFile = queue.File
)
