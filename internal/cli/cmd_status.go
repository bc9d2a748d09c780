package cli

import (
	"cmp"
	"context"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/app"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

func (s *session) statusCommand() *cli.Command {
	return s.command(cli.Command{
		Name: "status", Usage: "show the daemon, the queue and what runs", Category: categoryDaemon,
		Description: "Ends with exit code 4 when no daemon runs; the queue is shown all the same. Where there is\nno queue either the code is 3. --all ends with 0, with none as well.",
		Flags:       []cli.Flag{allFlag(), jsonFlag()},
		Action:      s.status,
	})
}

func (s *session) status(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	if c.Bool("all") {
		return s.statusAll(c)
	}
	cfg, err := s.configToCall(c)
	if err != nil {
		return err
	}
	cl, err := s.open(c.Context, cfg, reads, c.Bool("json"))
	if err != nil {
		if c.Bool("json") {
			_ = writeJSON(s.out, jsonStatus{Workspace: cfg.Workspace, QueueDir: cfg.QueueDir, Socket: socketPath(cfg)})
		}
		return err
	}
	defer func() { _ = cl.close() }()
	s.noteAddress(c.Context, cfg, cl)
	h, err := cl.Health(c.Context, &pb.HealthRequest{})
	if err != nil {
		return err
	}
	if cl.unattended() {
		return s.statusUnattended(c, cfg, cl, h)
	}
	if c.Bool("json") {
		return writeJSON(s.out, statusJSON(cfg, h, cl.where))
	}
	s.showDaemon(cfg, h)
	if note := configChanged(cfg, h); note != "" {
		s.out.printf("%-11s %s\n", "config", s.out.paint(yellow, note+startAnew))
	}
	s.showQueue(cfg, h)
	return s.showRunning(c.Context, cl)
}

// statusUnattended shows the queue that nobody runs.
func (s *session) statusUnattended(c *cli.Context, cfg config.Config, cl *client, h *pb.HealthResponse) error {
	if c.Bool("json") {
		of := statusJSON(cfg, h, "")
		if err := writeJSON(s.out, jsonStatus{
			Workspace: cfg.Workspace, QueueDir: cfg.QueueDir, QueueID: of.QueueID, Socket: socketPath(cfg), Queue: of.Queue, Paused: of.Paused,
		}); err != nil {
			return err
		}
		return cl.errNone()
	}
	s.out.printf("daemon      %s\nworkspace   %s\nqueue       %s\n", s.out.paint(yellow, "none runs"), oneLine(cfg.Workspace), oneLine(cfg.QueueDir))
	if said := h.GetServices()[cmdQueue]; said != "ok" {
		s.out.printf("%-11s %s\n", cmdQueue, oneLine(said))
	}
	if err := app.DropFolderTrouble(cfg.QueueDir); err != nil {
		s.out.printf("%-11s %s\n", "drop_folder", oneLine(err.Error()))
	}
	s.showRejected(cfg.QueueDir)
	s.showQueue(cfg, h)
	if err := s.showRunning(c.Context, cl); err != nil {
		return err
	}
	return cl.errNone()
}

func statusJSON(cfg config.Config, h *pb.HealthResponse, socket string) jsonStatus {
	j := jsonStatus{
		Running: true, Healthy: h.GetHealthy(), Role: h.GetRole(), PID: h.GetPid(), Version: h.GetVersion(), StartedAt: jsonAt(h.GetStartedAtNs()),
		Workspace: h.GetWorkspace(), QueueDir: h.GetQueueDir(), QueueID: h.GetQueueId(), LogFile: h.GetLogFile(),
		ConfigChanged: configChanged(cfg, h) != "",
		Socket:        socket, Services: h.GetServices(), Queue: map[string]map[string]int64{},
	}
	for _, k := range h.GetClasses() {
		// The daemon leaves out what is 0; a script should not have to know.
		states := make(map[string]int64, len(task.States))
		for _, st := range task.States {
			states[st.String()] = k.GetStates()[st.String()]
		}
		j.Queue[k.GetClass()] = states
		if k.GetPaused() {
			if j.Paused == nil {
				j.Paused = map[string]jsonPause{}
			}
			j.Paused[k.GetClass()] = jsonPause{
				At: jsonAt(k.GetPausedAtMs() * int64(time.Millisecond)), By: k.GetPausedBy(), Reason: k.GetPausedReason(),
			}
		}
	}
	return j
}

func (s *session) showDaemon(cfg config.Config, h *pb.HealthResponse) {
	health := s.out.paint(green, "accepts tasks")
	if !h.GetHealthy() {
		health = s.out.paint(red, "does not accept tasks")
	}
	role := cmp.Or(oneLine(h.GetRole()), api.RoleDaemon)
	s.out.printf("%-11s %s, pid %d, version %s, up %s (since %s)\n",
		role, health, h.GetPid(), oneLine(h.GetVersion()), span(s.now().Sub(task.Instant(h.GetStartedAtNs()).Time())), clock(h.GetStartedAtNs()))
	s.out.printf("workspace   %s\nqueue       %s\nlog         %s\n", h.GetWorkspace(), h.GetQueueDir(), h.GetLogFile())
	where := doorsOf(cfg, h)
	for _, name := range slices.Sorted(maps.Keys(h.GetServices())) {
		if slices.Contains(laterParts, name) {
			continue
		}
		text := h.GetServices()[name]
		if text == "ok" && where[name] != "" {
			text += ": " + where[name]
		}
		s.out.printf("%-11s %s\n", oneLine(name), oneLine(text))
	}
	if where != nil { // else the folder is not that of the daemon that answered
		s.showRejected(cfg.QueueDir)
	}
}

// showRejected says that files lie in the drop folder which cannot be tasks. Whether it can
// be read is said elsewhere.
func (s *session) showRejected(queueDir string) {
	if n, err := app.RejectedFiles(queueDir); err == nil && n > 0 {
		s.out.printf("%-11s %s in %s, each with the reason beside it\n", "rejected", s.out.paint(yellow, count(int64(n), "file")), oneLine(filepath.Join(queueDir, "rejected")))
	}
}

// doorsOf returns where the daemon listens, by the names of its services, if it is the
// one of this workspace.
func doorsOf(cfg config.Config, h *pb.HealthResponse) map[string]string {
	o := liveOwner(cfg.QueueDir)
	if o == nil || o.PID != int(h.GetPid()) {
		return nil
	}
	return map[string]string{"grpc": o.GRPC, "http": o.HTTP}
}

// queueColumns are the states that the table of classes shows; those between
// pending and running are over in a moment and count as running there.
var queueColumns = []struct {
	title  string
	states []task.State
}{
	{"PENDING", []task.State{task.Pending}},
	{"ACTIVE", []task.State{task.Assigned, task.Starting, task.Running, task.Stopping}},
	{"SUCCEEDED", []task.State{task.Succeeded}},
	{"FAILED", []task.State{task.Failed}},
	{"CANCELLED", []task.State{task.Cancelled}},
	{"LOST", []task.State{task.Lost}},
}

// onlySlurm says that tasks of a class run in Slurm and nowhere else.
func onlySlurm(cfg config.Config, class string) bool {
	k, err := cfg.Class(class)
	return err == nil && slices.Equal(k.Backends, []string{config.BackendSlurm})
}

func (s *session) showQueue(cfg config.Config, h *pb.HealthResponse) {
	g := grid{header: []string{"CLASS"}, right: []int{1, 2, 3, 4, 5, 6}}
	for _, col := range queueColumns {
		g.header = append(g.header, col.title)
	}
	for _, k := range h.GetClasses() {
		if onlySlurm(cfg, k.GetClass()) && strings.HasPrefix(h.GetServices()["slurm"], "none") && sumStates(k, task.States) == 0 && !k.GetPaused() {
			continue // nothing is in it, and nothing would run
		}
		cells := []string{k.GetClass()}
		for _, col := range queueColumns {
			cells = append(cells, strconv.FormatInt(sumStates(k, col.states), 10))
		}
		g.add(cells...)
	}
	s.out.printf("\n")
	if len(g.rows) == 0 {
		s.out.printf("the queue is empty\n")
		return
	}
	g.write(s.out)
	for _, k := range h.GetClasses() {
		if k.GetPaused() {
			said := pauseOf(k.GetPausedAtMs(), k.GetPausedBy(), k.GetPausedReason()).Of(k.GetClass())
			s.out.printf("%s\n", s.out.paint(yellow, oneLine(said)))
		}
	}
}

func sumStates(k *pb.ClassStatus, states []task.State) int64 {
	var n int64
	for _, st := range states {
		n += k.GetStates()[st.String()]
	}
	return n
}

// runningShown bounds the list of what runs; ps has all.
const runningShown = 20

// showRunning lists what is active now.
func (s *session) showRunning(ctx context.Context, cl *client) error {
	answer, err := cl.ListTasks(ctx, &pb.ListTasksRequest{States: activeStates(), Limit: runningShown})
	if err != nil || len(answer.GetTasks()) == 0 {
		return err
	}
	s.out.printf("\n")
	s.taskGrid(answer.GetTasks()).write(s.out)
	if answer.GetNextBeforeSeq() != 0 {
		s.out.printf("... and more: %s ps --state assigned,starting,running,stopping\n", Program)
	}
	return nil
}

func activeStates() []string {
	var out []string
	for _, st := range task.States {
		if st.Active() {
			out = append(out, st.String())
		}
	}
	return out
}
