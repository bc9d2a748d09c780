package cli

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
)

// jsonVerify is the answer of queue verify.
type jsonVerify struct {
	Sound      bool        `json:"sound" doc:"nothing is wrong"`
	Path       string      `json:"path" doc:"the database that was looked at; with a running daemon the folder of the queue, since the copy is gone by then"`
	Copy       bool        `json:"copy,omitempty" doc:"it was a copy that the running daemon made"`
	QueueID    string      `json:"queue_id,omitempty" doc:"the queue's own random id"`
	Tasks      int         `json:"tasks" doc:"tasks in it"`
	Unfinished int         `json:"unfinished" doc:"of these: have not ended"`
	Tombstones int         `json:"tombstones" doc:"removed tasks whose ids are still known"`
	Events     int         `json:"events" doc:"records of the event log"`
	Bytes      int64       `json:"bytes" doc:"size of the file"`
	FreeBytes  int64       `json:"free_bytes" doc:"how much of that is free, between what is in use"`
	Reserved   int64       `json:"reserved_bytes" doc:"how much of it is behind that, made ready for what comes"`
	Findings   []jsonFound `json:"findings" doc:"what is wrong"`
	Unused     []string    `json:"unused_files,omitempty" doc:"other databases in the folder, which nobody reads"`
}

func (s *session) queueVerify(c *cli.Context, _ []string) error {
	care, cfg, err := s.care(c)
	if err != nil {
		return err
	}
	got, err := s.verify(c.Context, care, cfg)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		err = writeJSON(s.out, got)
	} else {
		s.showVerified(got)
	}
	if err == nil && !got.Sound {
		return &exitError{code: exitFailed, msg: fmt.Sprintf("%s is damaged; %s queue repair saves what can be saved, once no daemon runs", oneLine(got.Path), Program)}
	}
	return err
}

// verify looks at the database, or, where a daemon changes it meanwhile, at a copy that
// it makes.
func (s *session) verify(ctx context.Context, care app.Care, cfg config.Config) (j jsonVerify, err error) {
	err = s.served(ctx, ofWorkspace(cfg), func(cl *client) error {
		f, err := care.BackupFile(filepath.Join(cfg.QueueDir, "verify.db"))
		if err != nil {
			return err
		}
		defer f.Discard()
		if _, err := s.download(ctx, cl, f); err != nil {
			return err
		}
		v, err := care.VerifyFile(ctx, f.Name())
		j = verifyJSON(v)
		j.Path, j.Copy = cfg.QueueDir, true
		return err
	}, func() error {
		v, err := care.Verify(ctx)
		j = verifyJSON(v)
		return err
	})
	return j, err
}

func (s *session) showVerified(v jsonVerify) {
	showFound(s.out, v.Findings)
	if v.Sound {
		s.out.printf("sound: %s; %s\n", holdingsText(v.Tasks, v.Unfinished, v.Tombstones, v.Events), sizeText(v.Bytes, v.FreeBytes, v.Reserved))
	}
	for _, path := range v.Unused {
		s.err.printf("note: %s is not in use; nobody reads it\n", oneLine(path))
	}
}
