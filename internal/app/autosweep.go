package app

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// outputKept is how long what a worker job printed is kept behind its last word.
	outputKept  = 7 * 24 * time.Hour
	outputSweep = time.Hour
	// outputEnding is that of the files, which are called as their jobs.
	outputEnding = ".out"
)

// outputs is the folder with what worker jobs printed, one file each.
func (w *autoWorkers) outputs() string {
	return filepath.Join(w.conf.QueueDir, "spool", "worker-jobs")
}

// sweep removes old outputs, but for those of jobs that may be there: one may have nothing
// to say for weeks.
func (w *autoWorkers) sweep(now time.Time) {
	if !w.known || now.Sub(w.swept) < outputSweep {
		return
	}
	w.swept = now
	entries, err := os.ReadDir(w.outputs())
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("the outputs of worker jobs cannot be listed; will try again", "error", err)
		}
		return
	}
	for _, e := range entries {
		job, ours := strings.CutSuffix(e.Name(), outputEnding)
		info, err := e.Info()
		if !ours || err != nil || now.Sub(info.ModTime()) < outputKept || slices.Contains(w.jobs, job) {
			continue
		}
		if err := os.Remove(filepath.Join(w.outputs(), e.Name())); err != nil {
			w.log.Warn("the output of a worker job that is over could not be removed; will try again", "job", job, "error", err)
		}
	}
}
