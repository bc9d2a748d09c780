package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/process"
	"github.com/dspy-agent/dspy-agent/internal/slurmtest"
	"github.com/dspy-agent/dspy-agent/internal/workers"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// workerJob submits a job with a worker, and returns its number.
func (w *world) workerJob(c *slurmtest.Cluster, sbatch []string, flags ...string) string {
	w.Helper()
	line := fmt.Sprintf("export XDG_RUNTIME_DIR=%s HOME=%s; exec %s --workspace %s worker %s",
		w.runtime, filepath.Dir(w.runtime), filepath.Join(w.bin, "dspy-agent"), w.workspace, strings.Join(flags, " "))
	args := append([]string{"--parsable", "--output=" + w.workspace + "/worker-%j.out", "--wrap=" + line}, sbatch...)
	return c.Command(w, "sbatch", args...)
}

// workerOf waits for the worker of a job, and returns its process.
func (w *world) workerOf(job string) (id string, pid int) {
	w.Helper()
	w.eventually(time.Minute, "the worker of job "+job, func() bool {
		cards, _ := filepath.Glob(filepath.Join(w.queueDir, "spool", "workers", "*", "card.json"))
		for _, path := range cards {
			var c lease.Card
			if b, err := os.ReadFile(path); err == nil && json.Unmarshal(b, &c) == nil && c.Job == job {
				id, pid = filepath.Base(filepath.Dir(path)), c.Process.PID
			}
		}
		return pid != 0
	})
	return id, pid
}

// begun waits until a worker has begun tasks.
func (w *world) begunBy(id string) {
	w.Helper()
	w.eventually(time.Minute, "worker "+id+" begins tasks", func() bool {
		claims, _ := os.ReadDir(filepath.Join(w.queueDir, "spool", "workers", id, "claims"))
		return len(claims) > 0
	})
}

// TestWorkersOnce: of five workers in Slurm jobs one is killed, one frozen, one's time is
// over, one's job is cancelled and one goes on; the daemon is killed, too. Each task works
// once.
func TestWorkersOnce(t *testing.T) {
	t.Parallel()
	tasks := rounds(200, 5000)
	c := slurmtest.Start(t, slurmtest.Config{})
	w := newWorld(t, binaries.plain)
	w.env = append(w.env, "SLURM_CONF="+c.Conf())
	w.configure("[classes.short]\nbackends = [\"worker\"]\n")
	w.mustStart()
	// Nothing ends before all workers have begun, or the first would leave the last nothing.
	gate := filepath.Join(w.workspace, "gate")
	line := `echo "$DSPY_TASK_ID" >> ` + w.workspace + `/ran; until [ -e ` + gate + ` ]; do sleep 0.1; done; sleep 0.2`
	var batch []*pb.SubmitTaskRequest
	for i := range tasks {
		req := submission(fmt.Sprint("t", i), line)
		req.Class = "short"
		batch = append(batch, req)
	}
	w.submit(batch...)
	size := []string{"--cpus-per-task=4", "--time=10"}
	killed, killedPID := w.workerOf(w.workerJob(c, size, "--by=files"))
	frozenJob := w.workerJob(c, size, "--by=files")
	frozen, frozenPID := w.workerOf(frozenJob)
	cancelledJob := w.workerJob(c, size)
	cancelled, _ := w.workerOf(cancelledJob)
	if full() { // Slurm's own limit, which is in minutes
		id, _ := w.workerOf(w.workerJob(c, []string{"--cpus-per-task=4", "--time=1"}))
		w.begunBy(id)
	}
	for _, id := range []string{killed, frozen, cancelled} {
		w.begunBy(id)
	}
	short, _ := w.workerOf(w.workerJob(c, size, "--for=12s")) // last: its time passes
	w.begunBy(short)
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(frozenPID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(frozenPID, syscall.SIGCONT) })
	if err := syscall.Kill(killedPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.Command(t, "scancel", cancelledJob)
	w.killDaemon()
	w.mustStart()
	rest := w.workerJob(c, size, "--idle=5m") // longer than the frozen one is waited for
	w.settle(5 * time.Minute)
	if err := syscall.Kill(frozenPID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	w.submit(&pb.SubmitTaskRequest{Id: "last", Class: "short", Payload: map[string]string{"command": `["true"]`}})
	w.settle(time.Minute)
	ran := w.runs()
	for id, info := range w.all() {
		if id != "last" && (ran[id] != 1 || info.GetState() != "succeeded") {
			t.Errorf("%s ran %d times, and is %s: %s", id, ran[id], info.GetState(), info.GetOutcome().GetMessage())
		}
	}
	c.Command(t, "scancel", rest, frozenJob)
	w.workersGone(c)
}

// workersGone waits until no worker's job, and no supervisor of one, is left.
func (w *world) workersGone(c *slurmtest.Cluster) {
	w.Helper()
	w.eventually(2*time.Minute, "the workers' jobs are over", func() bool {
		return c.Command(w, "squeue", "--me", "-h", "-t", "PD,R,CF,CG", "-o", "%i") == ""
	})
	w.eventually(time.Minute, "their supervisors leave", func() bool {
		dirs, _ := filepath.Glob(filepath.Join(w.runtime, "dspy-agent", "worker-*"))
		return !slices.ContainsFunc(dirs, func(d string) bool { return !process.Idle(d) })
	})
}

// TestWorkerJobsByThemselves: while tasks wait a job is submitted, no more than are allowed;
// it connects with the secret in its folder, which opens nothing else; and it ends when
// there is nothing to do.
func TestWorkerJobsByThemselves(t *testing.T) {
	t.Parallel()
	c := slurmtest.Start(t, slurmtest.Config{Nodes: 1})
	w := newWorld(t, binaries.plain)
	w.env = append(w.env, "SLURM_CONF="+c.Conf())
	addr := freeAddress(t)
	host, _, _ := net.SplitHostPort(addr)
	w.configure("grpc_addr = \"" + addr + "\"\n[classes.short]\nbackends = [\"worker\"]\n[workers]\nauto = 1\nbacklog = 20\ncpus = 2\nidle = \"3s\"\nwalltime = \"10m\"\n")
	w.dspyOK("access", "tls", host)
	w.dspyOK("access", "token")
	w.mustStart()
	var batch []*pb.SubmitTaskRequest
	for i := range 60 {
		req := submission(fmt.Sprint("t", i), "echo $DSPY_TASK_ID >> "+w.workspace+"/ran; sleep 0.2")
		req.Class = "short"
		batch = append(batch, req)
	}
	w.submit(batch...)
	var job string
	w.eventually(time.Minute, "a worker job", func() bool {
		job = c.Command(t, "squeue", "--me", "-h", "-o", "%i")
		return job != ""
	})
	id, _ := w.workerOf(job)
	path := lease.FolderOf(filepath.Join(w.queueDir, "spool", "workers"), id).Secret()
	w.eventually(time.Minute, "its secret", func() bool { return exists(path) })
	w.secretOpensOnly(path, id)
	for id, info := range w.settle(3 * time.Minute) {
		if info.GetState() != "succeeded" {
			t.Errorf("%s is %s", id, info.GetState())
		}
	}
	if more := c.Command(t, "scontrol", "show", "job", "-o"); strings.Count(more+"\n", "JobId=") != 1 {
		t.Errorf("one job was allowed:\n%s", more)
	}
	w.workersGone(c)
	out, err := os.ReadFile(filepath.Join(w.queueDir, "spool", "worker-jobs", job+".out"))
	if err != nil || !strings.Contains(string(out), "by=tls") {
		t.Errorf("the worker did not connect: %v\n%s", err, out)
	}
	for id, n := range w.runs() {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	public := c.Command(t, "scontrol", "show", "job", "-o") + c.Command(t, "scontrol", "write", "batch_script", job, "-")
	if s := w.readSecret(path); s.Word != "" && strings.Contains(public, s.Word) {
		t.Error("the secret is where others see it")
	}
}

// readSecret reads the secret of a worker; it is empty once the worker has gone.
func (w *world) readSecret(path string) (s workers.Secret) {
	b, err := os.ReadFile(path)
	if err != nil {
		return s
	}
	if err := json.Unmarshal(b, &s); err != nil {
		w.Error(err)
	}
	return s
}

// secretOpensOnly makes calls with a worker's secret.
func (w *world) secretOpensOnly(path, id string) {
	w.Helper()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		w.Errorf("%v, %v", info, err)
	}
	s := w.readSecret(path)
	cert, err := access.ParsePEM(s.Cert, time.Now())
	if err != nil {
		w.Fatal(err)
	}
	call := func(word, worker string) error {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		cl, err := api.Dial(ctx, api.Target{Addr: s.Addr, Cert: cert, Word: word})
		if err != nil {
			return err
		}
		defer cl.Close()
		if worker == "" {
			_, err = cl.Health(ctx, &pb.HealthRequest{})
		} else {
			_, err = cl.ExtendLease(ctx, &pb.ExtendLeaseRequest{Worker: worker})
		}
		return err
	}
	if err := call(s.Word, id); err != nil {
		w.Errorf("its own call: %v", err)
	}
	if err := call(s.Word, ""); err == nil {
		w.Error("the secret of a worker opens a call that is not a worker's")
	}
	if err := call(s.Word, "another12345"); err == nil {
		w.Error("the secret of a worker opens a call in another's name")
	}
	if err := call(s.Word+"x", id); err == nil {
		w.Error("any word opens it")
	}
}

// freeAddress is an address of this host beyond loopback.
func freeAddress(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || n.IP.IsLoopback() || n.IP.To4() == nil {
			continue
		}
		l, err := net.Listen("tcp", net.JoinHostPort(n.IP.String(), "0"))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Skip("this host has no address beyond loopback: give it one (ip addr add 192.0.2.1/32 dev lo)")
	return ""
}
