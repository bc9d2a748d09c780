package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// jsonBackup is the answer of queue backup.
type jsonBackup struct {
	File    string `json:"file" doc:"the copy; beside the name that was asked for if it is not sound"`
	Bytes   int64  `json:"bytes" doc:"its size"`
	QueueID string `json:"queue_id" doc:"the queue that it is of"`
	Sound   bool   `json:"sound" doc:"nothing is wrong with it"`
}

func (s *session) queueBackup(c *cli.Context, args []string) error {
	care, cfg, err := s.care(c)
	if err != nil {
		return err
	}
	if args[0] == "-" { // the copy is not written in order, and is checked when it is whole
		return usagef("queue backup: it goes into a file, which has its name once it is whole and checked, and not to standard output; to send it elsewhere: %s queue backup /tmp/queue.db, and then scp that", Program)
	}
	path := s.fileArg(args[0])
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return usagef("queue backup: %s is there, and is no file", path)
	}
	if sameFolder(filepath.Dir(path), cfg.QueueDir) {
		return usagef("queue backup: %s is the queue's own folder, where a file could take the place of the database; choose another", filepath.Dir(path))
	}
	j, err := s.backup(c.Context, care, cfg, path)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = writeJSON(s.out, j)
	} else {
		s.out.printf("backed up: %s, %s\n", oneLine(j.File), humanize.IBytes(uint64(j.Bytes)))
	}
	if err == nil && !j.Sound {
		return &exitError{code: exitFailed, msg: fmt.Sprintf("the backup is as damaged as the queue is, so it is in %s, and no earlier one was replaced; %s queue verify says what is wrong", oneLine(j.File), Program)}
	}
	return err
}

func sameFolder(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// backup has the daemon make the copy if there is one.
func (s *session) backup(ctx context.Context, care app.Care, cfg config.Config, path string) (j jsonBackup, err error) {
	err = s.served(ctx, cfg, func(cl *client) error {
		f, err := care.BackupFile(path)
		if err != nil {
			return err
		}
		defer f.Discard()
		last, err := s.download(ctx, cl, f)
		if err != nil {
			return err
		}
		kept, err := f.Keep(ctx, s.careProgress())
		j = jsonBackup{Bytes: last.GetSize(), QueueID: last.GetQueueId(), File: kept.Path, Sound: kept.Sound}
		return err
	}, func() error {
		done, kept, err := care.Backup(ctx, path)
		j = jsonBackup{Bytes: done.Bytes, QueueID: done.QueueID, File: kept.Path, Sound: kept.Sound}
		return err
	})
	return j, err
}

// download takes a copy of the database from the daemon, and returns the last chunk.
func (s *session) download(ctx context.Context, cl *client, f *app.BackupFile) (*pb.BackupQueueChunk, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := cl.BackupQueue(ctx, &pb.BackupQueueRequest{})
	if err != nil {
		return nil, err
	}
	tell := s.careProgress()
	for got := int64(0); ; {
		chunk, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return nil, task.Errorf(task.CodeInternal, "the daemon ended the copy of the queue before it was whole")
		case err != nil:
			return nil, err
		case chunk.GetDone():
			return chunk, nil
		}
		if err := f.WriteAt(chunk.GetOffset(), chunk.GetData()); err != nil {
			return nil, err
		}
		if got += int64(len(chunk.GetData())); tell != nil {
			tell("copying "+humanize.IBytes(uint64(got)), 0, 0)
		}
	}
}
