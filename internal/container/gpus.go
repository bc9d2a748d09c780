package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/docker"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Which GPUs a container is shown is the engine's doing, by their UUIDs. Whether it is
// able to is seen when it is asked for the first time: no call of its API tells.

// What to do about an engine that gives none.
const (
	podmanGPUs = "Podman takes no notice of GPUs that are asked for through Docker's API; point docker_host to a Docker, or run the program without an image"
	farGPUs    = "it may be on another machine than the GPUs, since it is called over the network; name it by its socket (unix://...) if it is on this one"
	toolGPUs   = "the container engine did not find NVIDIA's container toolkit when it was started: install nvidia-container-toolkit and restart the engine (systemctl restart docker)"
)

// NoGPUs says why containers cannot be given GPUs; "" = nothing is known against it.
func (b *Backend) NoGPUs() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.is.Podman:
		return podmanGPUs
	case !b.engine.Local():
		return farGPUs
	default:
		return b.noGPUs
	}
}

// gpusRefused takes note that the engine has no way to give GPUs. It finds that out when
// it starts, so it holds until it was away.
func (b *Backend) gpusRefused() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.noGPUs == "" {
		b.opts.Logger.Warn("the container engine cannot give GPUs to containers; tasks that need both wait until it was restarted", "host", b.engine.Host(), "reason", toolGPUs)
	}
	b.noGPUs, b.changed = toolGPUs, true
	b.ring()
}

// gpuVariable tells NVIDIA's runtime which GPUs to show to a container.
const gpuVariable = "NVIDIA_VISIBLE_DEVICES="

// gpuEnvironment is the variables of a task, with which GPUs it was given and no word
// of anybody else about that. Where an engine shows GPUs to every container of a CUDA
// image, one that was given none is shown none. Inside, CUDA counts from 0 what it is
// shown, so it is told nothing.
func gpuEnvironment(t task.Task) []string {
	lease := t.Status().Lease
	out := slices.DeleteFunc(slices.Clone(t.Spec.Env), func(kv string) bool { return strings.HasPrefix(kv, gpuVariable) })
	if len(lease.GPUs) == 0 {
		return append(out, gpuVariable+"void")
	}
	out = append(out, gpuVariable+strings.Join(lease.GPUs, ","), "CUDA_DEVICE_ORDER=PCI_BUS_ID")
	if lease.GPUMem > 0 {
		out = append(out, "DSPY_GPU_MEM_BYTES="+strconv.FormatInt(lease.GPUMem, 10))
	}
	return out
}

// gpuTrouble says what to tell of a start that failed for the sake of GPUs; "" = it did
// not.
func (r *run) gpuTrouble(kind error, words string) string {
	switch {
	case errors.Is(kind, docker.ErrNoGPUs):
		r.b.gpusRefused()
		return "it cannot be given GPUs: " + toolGPUs
	case errors.Is(kind, docker.ErrGPU):
		return "its GPUs could not be put into the container (is the driver the one that NVIDIA's container toolkit was made for?): " + words
	}
	return ""
}

// lostSight is what NVML says in a container that may not use the devices any more
// which it was started with.
const lostSight = "Failed to initialize NVML: Unknown Error"

// sightTail is how much of the output's end is looked at for that.
const sightTail = 64 << 10

// lostSightText says what to tell of a program that failed; "" = its output does not say
// that its container had lost its GPUs. The engine does not know of that.
func (r *run) lostSightText(t task.Task) string {
	if len(t.Status().Lease.GPUs) == 0 || !bytes.Contains(r.tail(sightTail), []byte(lostSight)) {
		return ""
	}
	return "its container had lost its GPUs (it printed \"" + lostSight + "\"): systemctl daemon-reload does that to running containers where the engine uses systemd's cgroups; " +
		"nvidia-ctk system create-dev-char-symlinks --create-all, or \"exec-opts\": [\"native.cgroupdriver=cgroupfs\"] in Docker's daemon.json, prevents it"
}

// tail is the end of the output.
func (r *run) tail(size int64) []byte {
	f, err := os.Open(r.b.layout.LogPath(r.ref))
	if err != nil {
		return nil // nothing was printed
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > size {
		if _, err := f.Seek(-size, io.SeekEnd); err != nil {
			return nil
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, size))
	if err != nil {
		return nil
	}
	return b
}

// Process returns the main process of a task's container; PID is 0 if that is not known,
// or not a process of this machine.
func (b *Backend) Process(t task.Task) host.Process {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r := b.runs[t.Ref()]; r != nil && b.engine.Local() {
		return r.main
	}
	return host.Process{}
}

// noteMain takes note of the main process of a container that runs.
func (r *run) noteMain(c docker.Container) {
	if !r.b.engine.Local() || c.Phase != docker.Running || c.PID <= 1 || !inhabits(c.PID, c.ID) {
		return
	}
	st, err := host.ReadStat(c.PID)
	if err != nil {
		return // it has ended
	}
	id, err := host.This()
	if err != nil {
		return
	}
	r.b.mu.Lock()
	defer r.b.mu.Unlock()
	r.main = host.Process{PID: st.PID, Start: st.Start, Boot: id.Boot}
}

// ContainerID returns the id of the container of a task, as its handle has it; "" if
// that is not the handle of one.
func ContainerID(t task.Task) string {
	var h handle
	if t.Status().Backend != Name || json.Unmarshal(t.Status().Handle, &h) != nil {
		return ""
	}
	return h.Container
}
