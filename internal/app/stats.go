package app

import (
	"maps"
	"slices"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/queue"
)

// pauser pauses classes through the engine, whose loop has to know at once; which are
// paused the queue knows.
type pauser struct {
	*engine.Engine
	queue *queue.Queue
}

var _ api.Pauser = pauser{}

// Paused returns the classes that are paused.
func (p pauser) Paused() map[string]task.Pause { return p.queue.Paused() }

func pauseOf(paused map[string]task.Pause, class string) *task.Pause {
	if p, ok := paused[class]; ok {
		return &p
	}
	return nil
}

// stats is how the queue is: what the queue counts, and what the engine has seen of
// late. Beside the configured classes it has those of which there still is something.
func (a *App) stats() (api.QueueStats, error) {
	st, err := a.queue.Stats()
	if err != nil {
		return api.QueueStats{}, err
	}
	oldest, err := a.queue.OldestWaiting()
	if err != nil {
		return api.QueueStats{}, err
	}
	out := api.QueueStats{
		QueueID: a.queue.ID(), Dir: a.conf.QueueDir, FileBytes: st.DBBytes, FreeBytes: int64(st.FreePages) * int64(st.PageSize),
		FirstIndex: st.FirstIndex, LastIndex: st.LastIndex, MaxWaiting: st.MaxWaiting,
	}
	if st.FirstIndex > st.LastIndex {
		out.FirstIndex = 0
	}
	paused, waiting := a.queue.Paused(), a.queue.Waiting()
	recent, window := a.engine.Recent()
	out.Window = window
	for _, n := range a.statsClasses(st.Counts, paused) {
		r := recent[n]
		out.Classes = append(out.Classes, api.ClassStats{
			Name: n, Parallel: a.conf.Classes[n].Parallel, States: st.Counts[n], Waiting: waiting[n], Oldest: oldest[n],
			Paused: pauseOf(paused, n),
			Recent: api.Recent{Started: r.Started, Ended: r.Ended, WaitP50: r.WaitP50, WaitP95: r.WaitP95},
		})
	}
	return out, nil
}

func (a *App) statsClasses(counts task.Counts, paused map[string]task.Pause) []string {
	names := a.ownClasses()
	more := map[string]bool{}
	for n := range counts {
		more[n] = true
	}
	for n := range paused {
		more[n] = true
	}
	for _, n := range slices.Sorted(maps.Keys(more)) {
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names
}
