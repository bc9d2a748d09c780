package dropfolder

import (
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"
)

// troubles logs what does not work: once when it begins, and once when it is over.
type troubles struct {
	log *slog.Logger
	now map[string]string // the cause of what is wrong, by step
}

// note says whether there is an error, which the step is known by.
func (t *troubles) note(step, message string, err error) bool {
	if err == nil {
		if _, was := t.now[step]; was {
			delete(t.now, step)
			t.log.Info("the drop folder works again", "step", step)
		}
		return false
	}
	if t.now == nil {
		t.now = map[string]string{}
	}
	if c := cause(err); t.now[step] != c {
		t.now[step] = c
		t.log.Warn(message, "error", err) //nolint:sloglint // a constant of each caller
	}
	return true
}

// cause is what errors about different files have in common.
func cause(err error) string {
	if errno, ok := errors.AsType[unix.Errno](err); ok {
		return errno.Error()
	}
	return err.Error()
}
