package cli

import (
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
)

// jsonRepair is the answer of queue repair and queue restore.
type jsonRepair struct {
	Path       string      `json:"path" doc:"the database in use now"`
	Former     string      `json:"former,omitempty" doc:"the one before, which is kept; absent when there was none"`
	QueueID    string      `json:"queue_id" doc:"the queue's own random id"`
	NewID      bool        `json:"new_id" doc:"it is another one than before, so that work of the former is not recognised"`
	Tasks      int         `json:"tasks" doc:"tasks in it"`
	Unfinished int         `json:"unfinished" doc:"of these: have not ended"`
	Held       int         `json:"held" doc:"of these: are held"`
	Tombstones int         `json:"tombstones" doc:"removed tasks whose ids are still known"`
	Events     int         `json:"events" doc:"records of the event log"`
	Findings   []jsonFound `json:"findings" doc:"what was wrong, and with it what is lost"`
}

func (s *session) queueRepair(c *cli.Context, _ []string) error {
	care, cfg, err := s.care(c)
	if err != nil {
		return err
	}
	var v app.Verified
	var done app.Repaired
	if err := s.whenFree(c.Context, cfg, "repair", func() (err error) {
		v, err = care.Verify(c.Context)
		if err != nil || v.Sound() {
			return err
		}
		if done, err = care.Repair(c.Context); len(done.Findings) == 0 {
			done.Findings = v.Findings // of indexes, which repair does not look at
		}
		return err
	}); err != nil {
		return err
	}
	if v.Sound() {
		if c.Bool("json") {
			return writeJSON(s.out, verifyJSON(v))
		}
		s.out.printf("nothing to repair: %s is sound\n", oneLine(v.Path))
		return nil
	}
	if c.Bool("json") {
		return writeJSON(s.out, repairJSON(done))
	}
	s.showRepaired("repaired", done)
	s.out.printf("the damaged one is kept: %s\n", oneLine(done.Former))
	return nil
}

func (s *session) showRepaired(what string, r app.Repaired) {
	showFound(s.out, foundJSON(r.Findings))
	s.out.printf("%s: %s, in %s\n", what, holdingsText(r.Tasks, r.Unfinished, r.Tombstones, r.Events), oneLine(r.Path))
	if r.Held > 0 {
		are := "are"
		if r.Held == 1 {
			are = "is"
		}
		s.out.printf("%s %s held: %s why ID says why, %s queue release ID lets one go, and cancel ends it\n", count(int64(r.Held), "task"), are, Program, Program)
	}
}

func (s *session) queueRestore(c *cli.Context, args []string) error {
	care, cfg, err := s.care(c)
	if err != nil {
		return err
	}
	var done app.Repaired
	err = s.whenFree(c.Context, cfg, "replace", func() (err error) {
		done, err = care.Restore(c.Context, s.fileArg(args[0]), c.Bool("force"), c.Bool("damaged"))
		return err
	})
	if errors.Is(err, app.ErrDamagedBackup) {
		showFound(s.err, foundJSON(done.Findings))
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(s.out, repairJSON(done))
	}
	s.showRepaired("restored", done)
	if done.Former != "" {
		s.out.printf("the queue that was there is kept: %s\n", oneLine(done.Former))
	}
	return nil
}

func verifyJSON(v app.Verified) jsonVerify {
	return jsonVerify{
		Sound: v.Sound(), Path: v.Path, QueueID: v.QueueID, Tasks: v.Tasks, Unfinished: v.Unfinished, Tombstones: v.Tombstones, Events: v.Events,
		Bytes: v.Bytes, FreeBytes: int64(v.FreePages) * int64(v.PageSize), Reserved: v.Reserve, Findings: foundJSON(v.Findings), Unused: v.Unused,
	}
}

func repairJSON(r app.Repaired) jsonRepair {
	return jsonRepair{
		Path: r.Path, Former: r.Former, QueueID: r.QueueID, NewID: r.NewID, Tasks: r.Tasks, Unfinished: r.Unfinished, Held: r.Held,
		Tombstones: r.Tombstones, Events: r.Events, Findings: foundJSON(r.Findings),
	}
}
