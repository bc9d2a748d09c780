package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/container"
	"github.com/dspy-agent/dspy-agent/internal/engine"
	"github.com/dspy-agent/dspy-agent/internal/gpupool"
	"github.com/dspy-agent/dspy-agent/internal/gpuprobe"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// eyes show the probe's view to the pool.
type eyes struct{ *gpuprobe.Watcher }

var _ gpupool.Eyes = eyes{}

// Latest returns the last view.
func (e eyes) Latest() (*gpu.Snapshot, time.Time) {
	v := e.Watcher.Latest()
	return v.Snapshot, v.Received
}

// newGPUs makes the pool of this machine's GPUs. It gives out none until the first look
// at them.
func (a *App) newGPUs(environ []string) error {
	where, err := host.This()
	if err != nil {
		return err
	}
	o := gpupool.Options{
		File:    filepath.Join(a.conf.QueueDir, "gpus-"+where.Machine[:12]+".json"),
		QueueID: a.queue.ID(), UID: os.Geteuid(), Boot: where.Boot, Sharers: a.conf.GPU.Sharers, ByUUID: a.conf.GPU.Visible == config.VisibleUUID,
		Whose: a.process.Whose, Container: container.ContainerID, Process: a.ownProcess, Starter: a.starter, Failed: a.gpuFailed, Log: a.log.With("component", "gpus"),
	}
	probe, smi := probeCommand(a.conf.GPU), inPath("nvidia-smi")
	o.Off = gpusOff(a.conf.GPU.Pool)
	if o.Off == "" && probe == nil && smi == nil {
		o.Off = "this host has no NVIDIA driver that could be read: neither gpu-probe nor nvidia-smi is here"
	}
	if o.Off == "" {
		o.LockDir, o.MakeLockDir = gpuLockDir(a.conf.GPU.LockDir), makeLockDir
		a.watcher = gpuprobe.New(gpuprobe.Options{
			Probe: probe, SMI: smi, Env: environ, Log: o.Log,
		})
		o.Eyes = eyes{a.watcher}
	}
	a.gpus, err = gpupool.New(o)
	return err
}

// ownProcess is the process of a task that shows that its GPUs are still held; PID is 0
// while none is known.
func (a *App) ownProcess(t task.Task) host.Process {
	if t.Status().Backend == container.Name {
		return a.containers.Process(t)
	}
	return a.process.Process(t)
}

// starter is the process that shows it until then: whoever starts tasks, or we.
func (a *App) starter() host.Process {
	if p := a.process.Supervisor(); p.PID != 0 {
		return p
	}
	self, err := host.Self()
	if err != nil {
		return host.Process{}
	}
	return self
}

// toldPatience is how long it may take to note that a GPU has failed, before the GPUs are
// looked at again.
const toldPatience = time.Second

// gpuFailed adds it to the event log.
func (a *App) gpuFailed(id gpu.DeviceID, h gpu.Health) error {
	ctx, cancel := context.WithTimeout(context.Background(), toldPatience)
	defer cancel()
	return a.queue.GPUFailed(ctx, string(id), string(h.State)+": "+h.Reason)
}

// runGPUs starts the look at the GPUs.
func (a *App) runGPUs() {
	if a.watcher != nil {
		a.run("look at the GPUs", a.watcher.Run)
	}
	a.run("GPUs", a.gpus.Run)
}

// inventory is what the engine knows of GPUs.
func (a *App) inventory() engine.Inventory {
	if a.gpus == nil {
		return nil
	}
	return a.gpus
}

// gpuPort is what the API knows of them.
func (a *App) gpuPort() api.GPUs {
	if a.gpus == nil {
		return nil
	}
	return gpuPort{a.gpus, a.conf.GPU.Pool, a.engine.Kept, a.log}
}

type gpuPort struct {
	*gpupool.Pool
	pool string
	kept func() (map[gpu.DeviceID]string, error)
	log  *slog.Logger
}

// firstLook is how long a submission waits for the first look at the GPUs.
const firstLook = 2 * time.Second

// Missing says what to do besides. With "on" somebody has said that GPUs will come.
func (p gpuPort) Missing(ctx context.Context) string {
	late := time.NewTimer(firstLook)
	defer late.Stop()
	select {
	case <-p.Seen():
	case <-late.C:
	case <-ctx.Done():
	}
	why := p.Pool.Missing()
	switch {
	case why == "" || p.pool == config.PoolOn:
		return ""
	case p.pool == config.PoolAuto:
		return why + `; if the queue is also run where there are GPUs, set pool = "on" in [gpu] of the configuration, and the task waits for that`
	default:
		return why
	}
}

// List shows the pool's devices.
func (p gpuPort) List() api.GPUList {
	l := p.Pool.List()
	out := api.GPUList{Down: l.Down, Off: l.Off, Driver: l.Driver, Age: l.Age}
	kept, err := p.kept()
	if err != nil {
		p.log.Warn("for whom GPUs are kept cannot be told", "error", err)
	}
	for _, d := range l.Devices {
		out.GPUs = append(out.GPUs, shown(d, kept[d.ID]))
	}
	return out
}

// shown is a device in the words of the API.
func shown(d gpupool.Device, keptFor string) api.GPU {
	return api.GPU{Verdict: d.Verdict, Health: d.Health, Drain: d.Drain, Owners: d.Owners, KeptFor: keptFor}
}

// Drain passes it on.
func (p gpuPort) Drain(id, by, reason string) (api.GPU, error) {
	d, err := p.Pool.Drain(id, by, reason)
	return shown(d, ""), err
}

// Resume passes it on.
func (p gpuPort) Resume(id, by string) (api.GPU, error) {
	d, err := p.Pool.Resume(id, by)
	return shown(d, ""), err
}

func (a *App) gpuStatus() string {
	if a.gpus == nil {
		return "nobody looks at the GPUs while no daemon runs"
	}
	return a.gpus.Status()
}

// gpuEnv tells a program which GPUs are its own. One that was given none sees none,
// unless its submitter chose some for it; where GPUs are not ours to give, nothing is
// said.
func (a *App) gpuEnv(t task.Task) []string {
	lease := t.Status().Lease
	if len(lease.GPUs) > 0 {
		env := []string{"CUDA_DEVICE_ORDER=PCI_BUS_ID", "CUDA_VISIBLE_DEVICES=" + lease.CUDA}
		if lease.GPUMem > 0 {
			env = append(env, "DSPY_GPU_MEM_BYTES="+strconv.FormatInt(lease.GPUMem, 10))
		}
		return env
	}
	if a.gpus.Missing() != "" {
		return nil
	}
	for _, kv := range t.Spec.Env {
		if strings.HasPrefix(kv, "CUDA_VISIBLE_DEVICES=") {
			return nil
		}
	}
	return []string{"CUDA_VISIBLE_DEVICES="}
}

// gpusOff says why this machine's GPUs are not given out; "" = they are.
func gpusOff(pool string) string {
	switch {
	case pool == config.PoolOff:
		return `the configuration says that GPUs of this host are not given out ([gpu] pool = "off")`
	case pool == config.PoolAuto && slurmNode():
		return `this host is a node of Slurm's, which gives out its GPUs (slurmd runs here; [gpu] pool = "on" in the configuration takes them all the same)`
	}
	return ""
}

// slurmNode says whether Slurm's daemon for nodes runs here.
func slurmNode() bool {
	names, err := filepath.Glob("/proc/[0-9]*/comm")
	if err != nil {
		return false
	}
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.TrimSpace(string(b)) == "slurmd" {
			return true
		}
	}
	return false
}

// probeCommand is how gpu-probe is called; nil = there is none.
func probeCommand(conf config.GPU) []string {
	argv := []string{conf.Probe}
	if conf.Probe == "" {
		if argv = besideUs("gpu-probe"); argv == nil {
			argv = inPath("gpu-probe")
		}
	}
	if argv != nil && conf.Library != "" {
		argv = append(argv, "--library", conf.Library)
	}
	return argv
}

func besideUs(name string) []string {
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	path := filepath.Join(filepath.Dir(self), name)
	if _, err := os.Stat(path); err != nil {
		return nil
	}
	return []string{path}
}

func inPath(name string) []string {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil
	}
	return []string{path}
}

// gpuLockDir is the folder of the locks, which all users of this machine share. It is
// made when the first lock is taken.
func gpuLockDir(configured string) string {
	const usual, otherwise = "/run/lock/dspy-agent", "/tmp/dspy-agent-gpus"
	if configured != "" {
		return configured
	}
	if _, err := os.Stat(usual); err == nil || unix.Access(filepath.Dir(usual), unix.W_OK) == nil {
		return usual
	}
	return otherwise
}

// makeLockDir makes the folder of the locks: everybody may add to it, and nobody may
// remove what is another's.
func makeLockDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	switch {
	case err == nil:
		return os.Chmod(dir, 0o777|os.ModeSticky) //nolint:gosec // it is everybody's, like /tmp
	case !os.IsExist(err):
		return fmt.Errorf("make the folder of the locks of GPUs: %w", err)
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
		return fmt.Errorf("%s is no folder for locks of GPUs: anybody could remove them (chmod +t it, or set lock_dir in [gpu] of the configuration)", dir)
	}
	return nil
}

// gpuWait is how long the task has waited that waits longest for a GPU.
func (a *App) gpuWait() time.Duration {
	since, err := a.queue.OldestForGPU()
	if err != nil || since == 0 {
		return 0 // whoever asks for tasks hears of the error
	}
	return max(0, task.At(time.Now()).Sub(since))
}

// verdicts are for the metrics.
func (a *App) verdicts() []gpu.Verdict {
	if a.gpus == nil {
		return nil
	}
	devices := a.gpus.List().Devices
	out := make([]gpu.Verdict, len(devices))
	for i, d := range devices {
		out[i] = d.Verdict
	}
	return out
}
