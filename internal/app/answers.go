package app

import (
	"context"
	"errors"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/mounts"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/tryopen"
	"github.com/dspy-agent/dspy-agent/queue"
)

// A file server that hangs holds up whoever looks at one of its files, for good. So
// whoever is about to asks first whether it answers; on local disks that is no more than
// a look at the table of what is mounted.

// QueueAnswers returns an error if what the queue is on does not answer.
func QueueAnswers(ctx context.Context, conf config.Config) error {
	return queue.Answers(ctx, conf.QueueDir, ownProgram)
}

// FolderAnswers returns an error if what a folder is on does not answer. what names it in
// the error: "the workspace".
func FolderAnswers(ctx context.Context, what, dir string) error {
	return folderAnswers(ctx, what, tryopen.Plan{Dir: dir})
}

// LogFolderAnswers is for the folder of the log, which is made and written.
func LogFolderAnswers(ctx context.Context, conf config.Config) error {
	return folderAnswers(ctx, "the folder of the log", tryopen.Plan{Dir: conf.LogDir, Write: true})
}

func folderAnswers(ctx context.Context, what string, p tryopen.Plan) error {
	on, err := mounts.Of(p.Dir)
	if err == nil && on.Local() {
		return nil
	}
	_, err = tryopen.Run(ctx, ownProgram, p, tryopen.Limit)
	if hung, ok := errors.AsType[*tryopen.HungError](err); ok {
		return task.Errorf(task.CodeUnavailable, "%s, %s, cannot be used: it is on %s, and %w; try again when it answers", what, p.Dir, on, hung)
	}
	return ctx.Err()
}
