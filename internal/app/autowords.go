package app

import (
	"fmt"
	"sync"
)

// autoStep is what may go wrong with worker jobs, each for itself: a trouble is over when
// the same step goes well.
type autoStep int

const (
	asking autoStep = iota
	submitting
	cancelling
	autoSteps
)

// autoWords is what tasks are told that wait for worker jobs. Others ask than those who know.
type autoWords struct {
	mu       sync.Mutex
	loaded   bool // so many wait that jobs are to be submitted
	status   string
	troubles [autoSteps]string
}

// load notes whether so many wait that jobs are to be submitted.
func (w *autoWords) load(loaded bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.loaded = loaded
}

// trouble notes how a step went; "" = well. It says whether that is new.
func (w *autoWords) trouble(about autoStep, text string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	was := w.troubles[about]
	w.troubles[about] = text
	return text != was
}

// tell notes which jobs there are.
func (w *autoWords) tell(pending, working int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = ""
	if pending+working > 0 {
		w.status = fmt.Sprintf("%d worker jobs run, and %d wait in Slurm", working, pending)
	}
}

func (w *autoWords) submitted(job string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.status = "job " + job + " was submitted"
}

// none is what is said where there is no worker. With a trouble one waits only while jobs
// are to be submitted.
func (w *autoWords) none(backlog int) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.loaded && w.troubles[asking] != "":
		return w.troubles[asking]
	case w.loaded && w.troubles[submitting] != "":
		return w.troubles[submitting]
	case w.status != "":
		return "no worker works yet: " + w.status
	}
	return fmt.Sprintf("no worker is there; one is submitted to Slurm when %d tasks wait, or start one with: dspy-agent worker", backlog)
}
