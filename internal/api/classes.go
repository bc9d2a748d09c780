package api

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Pauser is what the server needs to pause classes and to resume them. What it
// answers is on disk.
type Pauser interface {
	// PauseClass pauses a class; already says that it was, and then the Pause is the
	// earlier one.
	PauseClass(ctx context.Context, class, by, reason string) (is task.Pause, already bool, err error)
	// ResumeClass ends a Pause and returns it; ok is false when there was none.
	ResumeClass(ctx context.Context, class, by string) (was task.Pause, ok bool, err error)
	// Paused returns the classes that are paused. It is called for every submission
	// and must be cheap.
	Paused() map[string]task.Pause
}

// QueueStats is how the queue is.
type QueueStats struct {
	Classes               []ClassStats
	QueueID, Dir          string
	FileBytes, FreeBytes  int64         // of the database, and of these in pages that nothing uses
	FirstIndex, LastIndex uint64        // of the event log; FirstIndex is 0 when it is empty
	MaxWaiting            int           // tasks that may wait at once; 0 = no bound
	Window                time.Duration // that Recent is about
}

// ClassStats is how one class is.
type ClassStats struct {
	Name     string
	Parallel int // 0 = bounded only by the machine
	States   map[task.State]int
	Waiting  task.Waiting
	Oldest   task.Instant // since when the one waits that has waited longest; 0 = none waits
	Paused   *task.Pause
	Recent   Recent
}

// Recent is what the last minutes were like for a class.
type Recent struct {
	Started, Ended   int
	WaitP50, WaitP95 time.Duration
}

// PauseClass keeps the waiting tasks of a class waiting.
func (s service) PauseClass(ctx context.Context, req *pb.PauseClassRequest) (*pb.PauseClassResponse, error) {
	class, err := s.knownClass(req.GetClass())
	if err != nil {
		return nil, err
	}
	if err := (task.Pause{Reason: req.GetReason()}).Check(); err != nil {
		return nil, err
	}
	who, _ := rpc.PeerFrom(ctx)
	_, already, err := s.opts.Pauser.PauseClass(ctx, class, who.String(), req.GetReason())
	if err != nil {
		return nil, err
	}
	stats, err := s.classNow(class)
	return &pb.PauseClassResponse{Class: stats, Already: already}, err
}

// ResumeClass ends the pause of a class. One that has become another name since it
// was paused, or is not configured any more, can be resumed by the name it had.
func (s service) ResumeClass(ctx context.Context, req *pb.ResumeClassRequest) (*pb.ResumeClassResponse, error) {
	who, _ := rpc.PeerFrom(ctx)
	name, resumed := req.GetClass(), false
	if _, ok := s.opts.Pauser.Paused()[name]; ok {
		var err error
		if _, resumed, err = s.opts.Pauser.ResumeClass(ctx, name, who.String()); err != nil {
			return nil, err
		}
	}
	class, err := s.knownClass(name)
	switch {
	case err != nil && resumed:
		class = name
	case err != nil:
		return nil, err
	case class != name || !resumed:
		_, ok, err := s.opts.Pauser.ResumeClass(ctx, class, who.String())
		if err != nil {
			return nil, err
		}
		resumed = resumed || ok
	}
	stats, err := s.classNow(class)
	return &pb.ResumeClassResponse{Class: stats, Already: !resumed}, err
}

// knownClass resolves the name of a class, which has to be given.
func (s service) knownClass(name string) (string, error) {
	if name == "" {
		return "", task.Errorf(task.CodeInvalid, "class is empty; name one")
	}
	class, err := s.opts.Class(name)
	return class.Name, err
}

// classNow tells how one class is.
func (s service) classNow(class string) (*pb.ClassStats, error) {
	stats, err := s.opts.Stats()
	if err != nil {
		return nil, err
	}
	for _, k := range stats.Classes {
		if k.Name == class {
			return classStatsTo(k, stats.Window, s.opts.Now()), nil
		}
	}
	return &pb.ClassStats{Name: text(class)}, nil
}

// GetQueueStats tells how the queue is.
func (s service) GetQueueStats(context.Context, *pb.GetQueueStatsRequest) (*pb.QueueStats, error) {
	stats, err := s.opts.Stats()
	if err != nil {
		return nil, err
	}
	p := &pb.QueueStats{
		QueueId: stats.QueueID, Dir: text(stats.Dir), FileBytes: stats.FileBytes, FreeBytes: stats.FreeBytes,
		FirstIndex: stats.FirstIndex, LastIndex: stats.LastIndex, MaxWaiting: int64(stats.MaxWaiting),
	}
	for _, k := range stats.Classes {
		p.Classes = append(p.Classes, classStatsTo(k, stats.Window, s.opts.Now()))
	}
	return p, nil
}

func classStatsTo(k ClassStats, window time.Duration, now time.Time) *pb.ClassStats {
	p := &pb.ClassStats{
		Name: text(k.Name), States: map[string]int64{}, Parallel: int32(k.Parallel),
		Ready: int64(k.Waiting.Ready), Blocked: int64(k.Waiting.Blocked), Delayed: int64(k.Waiting.Delayed), Held: int64(k.Waiting.Held),
		Recent: &pb.RecentStats{
			WindowMs: window.Milliseconds(), Started: int64(k.Recent.Started), Ended: int64(k.Recent.Ended),
			WaitP50Ms: k.Recent.WaitP50.Milliseconds(), WaitP95Ms: k.Recent.WaitP95.Milliseconds(),
		},
	}
	for state, n := range k.States {
		p.States[state.String()] = int64(n)
	}
	if k.Oldest != 0 {
		p.OldestWaitingMs = max(0, task.At(now).Sub(k.Oldest).Milliseconds())
	}
	if k.Paused != nil {
		p.Paused, p.PausedBy, p.PausedReason = true, text(k.Paused.By), text(k.Paused.Reason)
		p.PausedAtMs = milliseconds(k.Paused.At)
	}
	return p
}

func milliseconds(at task.Instant) int64 { return int64(at) / int64(time.Millisecond) }

// warner returns what says why a task that was accepted does not start as things are
// now; "" where nothing is known that is against it. It is for the tasks of one call.
func (s service) warner() func(task.Task) string {
	paused := s.opts.Pauser.Paused() // once for all: it is a copy
	said := make(map[string]string, len(paused))
	return func(t task.Task) string {
		if lacks := s.lacks(t); lacks != "" || t.Spec == nil || t.State() != task.Pending {
			return lacks
		}
		p, ok := paused[t.Spec.Class]
		if ok && said[t.Spec.Class] == "" {
			said[t.Spec.Class] = p.Of(t.Spec.Class)
		}
		if said[t.Spec.Class] == "" && s.opts.Missing != nil {
			return s.opts.Missing(t)
		}
		return said[t.Spec.Class]
	}
}
