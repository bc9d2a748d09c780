package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// All daemons of this user that run on this host are found by their sockets, which are in
// one folder: that of this login, so that one which was started with another
// XDG_RUNTIME_DIR is not among them.

// lookAtDaemon is how long one of them may take to say who it is.
const lookAtDaemon = 2 * time.Second

// running is one of them.
type running struct {
	socket string
	health *pb.HealthResponse // nil: it does not answer
}

// allDaemons returns them, by workspace.
func (s *session) allDaemons(ctx context.Context) ([]running, error) {
	sockets, err := runtimedir.Sockets(runtimedir.Path(s.env.getenv("XDG_RUNTIME_DIR"), os.Getuid()))
	if err != nil {
		return nil, err
	}
	found := make([]*running, len(sockets))
	var asked sync.WaitGroup
	for i, path := range sockets {
		asked.Go(func() { found[i] = askDaemon(ctx, path) })
	}
	asked.Wait()
	var out []running
	for _, r := range found {
		if r != nil {
			out = append(out, *r)
		}
	}
	slices.SortFunc(out, func(a, b running) int {
		return cmp.Or(strings.Compare(a.health.GetWorkspace(), b.health.GetWorkspace()), strings.Compare(a.socket, b.socket))
	})
	return out, nil
}

// askDaemon asks who listens at a socket; nil where nobody does.
func askDaemon(ctx context.Context, socket string) *running {
	ctx, cancel := context.WithTimeout(ctx, lookAtDaemon)
	defer cancel()
	c, err := api.Dial(ctx, api.Target{Socket: socket})
	switch {
	case err != nil && errors.Is(err, api.ErrNoDaemon):
		return nil
	case err != nil:
		return &running{socket: socket}
	}
	defer func() { _ = c.Close() }()
	h, err := c.Health(ctx, &pb.HealthRequest{})
	if err != nil {
		h = nil
	}
	return &running{socket: socket, health: h}
}

func allFlag() cli.Flag {
	return boolFlag("all", "show all daemons of yours that run on this host, whatever their workspace")
}

// statusAll is status --all.
func (s *session) statusAll(c *cli.Context) error {
	found, err := s.allDaemons(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		out := []jsonDaemon{}
		for _, r := range found {
			h := r.health
			out = append(out, jsonDaemon{
				Workspace: h.GetWorkspace(), QueueDir: h.GetQueueDir(), Role: h.GetRole(), PID: h.GetPid(), StartedAt: jsonAt(h.GetStartedAtNs()),
				Answers: h != nil, Healthy: h.GetHealthy(), Socket: r.socket, Waiting: sumAll(h, waitingStates()), Active: sumAll(h, activeOnes()),
			})
		}
		return writeJSON(s.out, out)
	}
	if len(found) == 0 {
		s.out.printf("no daemon of yours runs on this host\n")
		return nil
	}
	g := grid{header: []string{"WORKSPACE", "PID", "UP", "SINCE", "WAITING", "ACTIVE"}, right: []int{1, 4, 5}, whole: []int{0}}
	for _, r := range found {
		h := r.health
		if h == nil {
			g.add(oneLine(r.socket)+" (does not answer)", "", "", "", "", "")
			continue
		}
		g.add(oneLine(h.GetWorkspace()), fmt.Sprint(h.GetPid()), span(s.now().Sub(task.Instant(h.GetStartedAtNs()).Time())),
			clock(h.GetStartedAtNs()), number(sumAll(h, waitingStates())), number(sumAll(h, activeOnes())))
	}
	g.write(s.out)
	return nil
}

func waitingStates() []task.State { return []task.State{task.Pending} }

func activeOnes() []task.State {
	return slices.DeleteFunc(slices.Clone(task.States), func(st task.State) bool { return !st.Active() })
}

func sumAll(h *pb.HealthResponse, states []task.State) int64 {
	var n int64
	for _, k := range h.GetClasses() {
		n += sumStates(k, states)
	}
	return n
}

// daemonsShown bounds the list in an error.
const daemonsShown = 5

// noQueueHere is the error for a workspace without a queue, which most often is the wrong
// folder: starting a daemon there would make a second queue.
func (s *session) noQueueHere(ctx context.Context, cfg config.Config, none error) error {
	text := "there is no queue in " + cfg.String()
	if cfg.QueueDir != config.Default(cfg.Workspace).QueueDir {
		text = fmt.Sprintf("there is no queue in %s, for %s", oneLine(cfg.QueueDir), cfg)
	}
	found, err := s.allDaemons(ctx)
	if err != nil {
		found = nil // what is said is true all the same
	}
	var where []string
	for _, r := range found {
		if r.health != nil {
			where = append(where, oneLine(r.health.GetWorkspace()))
		}
	}
	switch more := len(where) - daemonsShown; {
	case len(where) == 0:
		text += fmt.Sprintf(", and no daemon of yours runs on this host; go to the folder of your queue, or make one here with: %s", startHint(cfg))
	case more > 0:
		text += fmt.Sprintf("; daemons of yours run for %s and %d more (%s status --all): go there, or name one with --workspace", strings.Join(where[:daemonsShown], ", "), more, Program)
	default:
		text += fmt.Sprintf("; a daemon of yours runs for %s: go there, or name it with --workspace", strings.Join(where, ", "))
	}
	return &task.Error{Code: task.CodeNotFound, Message: text, Err: none}
}

func isFolder(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
