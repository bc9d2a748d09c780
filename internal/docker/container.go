package docker

import (
	"context"
	"fmt"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
)

// Spec is a container that is to be made. There is no way to ask for a privileged
// one.
type Spec struct {
	Name       string
	Labels     map[string]string
	Image      string
	Entrypoint []string // nil = the image's
	Command    []string // nil = the image's
	Env        []string // "K=V"; goes by the API, so it is in no table of processes
	Dir        string   // "" = the image's
	User       string   // "uid:gid"; "" = the image's
	Mounts     []Mount
	CPUMilli   int64 // at most so much; 0 = no limit
	MemBytes   int64 // at most so much, swap included; 0 = no limit
	ShmBytes   int64 // of /dev/shm; 0 = the engine's default
	PIDs       int64 // 0 = no limit
	Network    string
	Init       bool     // an init before the program, which passes signals on and reaps
	CapAdd     []string // capabilities beside none
	// GPUs are the UUIDs of NVIDIA's GPUs and MIG instances that it is shown.
	GPUs []string
	// LogBytes is how much output the engine keeps, in LogFiles files; 0 = without end.
	LogBytes int64
	LogFiles int
}

// Mount shows a path of the engine's host to a container. The path has to be there.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// Create makes a container and does not start it. The error matches ErrNameTaken
// when there is one of that name, of whoever it is.
func (c *Client) Create(ctx context.Context, s Spec) (id string, err error) {
	mounts, binds := mountsOf(s.Mounts)
	conf := &container.Config{
		Image: s.Image, Entrypoint: s.Entrypoint, Cmd: s.Command, Env: s.Env, WorkingDir: s.Dir, User: s.User, Labels: s.Labels,
	}
	host := &container.HostConfig{
		Mounts: mounts, Binds: binds, NetworkMode: container.NetworkMode(s.Network), ShmSize: s.ShmBytes,
		CapDrop: []string{"ALL"}, CapAdd: s.CapAdd, SecurityOpt: []string{"no-new-privileges:true"},
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Resources:     container.Resources{NanoCPUs: s.CPUMilli * 1e6, Memory: s.MemBytes, MemorySwap: s.MemBytes},
	}
	if s.Init {
		host.Init = &s.Init
	}
	if s.PIDs > 0 {
		host.PidsLimit = &s.PIDs
	}
	if len(s.GPUs) > 0 {
		// As docker run --gpus asks: what else the driver is to show, the image says.
		host.DeviceRequests = []container.DeviceRequest{{Driver: "nvidia", DeviceIDs: s.GPUs, Capabilities: [][]string{{"gpu"}}}}
	}
	host.LogConfig = jsonLog(s.LogBytes, s.LogFiles)
	made, err := c.api.ContainerCreate(ctx, conf, host, nil, nil, s.Name)
	if err != nil {
		return "", c.fail(doingCreate, s.Name, err)
	}
	return made.ID, nil
}

// jsonLog keeps so many bytes of output in so many files; 0 = as the engine does.
func jsonLog(size int64, files int) container.LogConfig {
	if size <= 0 {
		return container.LogConfig{}
	}
	files = max(files, 1)
	return container.LogConfig{Type: "json-file", Config: map[string]string{
		"max-size": strconv.FormatInt(size/int64(files), 10), "max-file": strconv.Itoa(files),
	}}
}

// mountsOf writes mounts in the one of two forms that takes their paths: Podman 4 takes
// those of the first apart at commas, and the second takes no colons.
func mountsOf(all []Mount) (mounts []mount.Mount, binds []string) {
	for _, m := range all {
		if both := m.Source + m.Target; !strings.Contains(both, ",") || strings.Contains(both, ":") {
			mounts = append(mounts, mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
			continue
		}
		bind := m.Source + ":" + m.Target
		if m.ReadOnly {
			bind += ":ro"
		}
		binds = append(binds, bind)
	}
	return mounts, binds
}

// Start starts a container. One that runs already is started. The error matches
// ErrUnsent when the engine was not asked.
func (c *Client) Start(ctx context.Context, name string) error {
	var sent atomic.Bool
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }})
	err := c.api.ContainerStart(ctx, name, container.StartOptions{})
	switch {
	case err == nil:
		return nil
	case !sent.Load():
		return fmt.Errorf("%w: %w", ErrUnsent, c.fail(doingStart, name, err))
	default:
		return c.fail(doingStart, name, err)
	}
}

// Kill sends a signal and does not wait. The error matches ErrNotRunning when there
// was nobody to send it to.
func (c *Client) Kill(ctx context.Context, name, signal string) error {
	if err := c.api.ContainerKill(ctx, name, signal); err != nil {
		return c.fail(doingKill, name, err)
	}
	return nil
}

// Stop ends a container: politely, after the grace by force. It waits for the end.
func (c *Client) Stop(ctx context.Context, name string, grace time.Duration) error {
	seconds := int((grace + time.Second - 1) / time.Second)
	if err := c.api.ContainerStop(ctx, name, container.StopOptions{Timeout: &seconds}); err != nil {
		return c.fail("stop container", name, err)
	}
	return nil
}

// Remove removes a container with its anonymous volumes, whatever it does.
func (c *Client) Remove(ctx context.Context, name string) error {
	err := c.api.ContainerRemove(ctx, name, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if err != nil {
		return c.fail("remove container", name, err)
	}
	return nil
}

// Phase is where a container stands.
type Phase uint8

// The phases.
const (
	Created Phase = iota // it has never run
	Running              // paused and restarting ones included
	Exited
)

// Container is what an engine knows of one.
type Container struct {
	ID         string
	Name       string
	Image      string // its id
	Labels     map[string]string
	Phase      Phase
	PID        int
	ExitCode   int
	OOM        bool   // the kernel killed something in it for lack of memory
	StopSignal string // that it wants to be ended with; "" = SIGTERM
	Trouble    string // why it could not be started, in the engine's words
	Kind       error  // the sentinel that Trouble matches; nil = none is known
	Created    time.Time
	Started    time.Time
	Finished   time.Time
}

// Inspect looks at a container.
func (c *Client) Inspect(ctx context.Context, name string) (Container, error) {
	r, err := c.api.ContainerInspect(ctx, name)
	if err != nil {
		return Container{}, c.fail("look at container", name, err)
	}
	return containerOf(r), nil
}

func containerOf(r container.InspectResponse) Container {
	out := Container{ID: r.ID, Name: trimName(r.Name), Image: r.Image, Created: instant(r.Created)}
	if r.Config != nil {
		out.Labels, out.StopSignal = r.Config.Labels, r.Config.StopSignal
	}
	if s := r.State; s != nil {
		out.PID, out.ExitCode, out.OOM, out.Trouble = s.Pid, s.ExitCode, s.OOMKilled, s.Error
		out.Started, out.Finished = instant(s.StartedAt), instant(s.FinishedAt)
		out.Phase = phaseOf(s.Status)
		out.Kind = kindByText(doingStart, s.Error)
	}
	return out
}

// phaseOf reads the words of Docker, and of Podman ("configured", "stopped").
func phaseOf(word string) Phase {
	switch word {
	case "created", "configured", "initialized":
		return Created
	case "exited", "dead", "stopped", "removing":
		return Exited
	default: // running, paused, restarting, stopping
		return Running
	}
}

// instant reads a time; the zero one, which engines write as the year 1, is zero.
func instant(s string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

func trimName(n string) string {
	if n != "" && n[0] == '/' {
		return n[1:]
	}
	return n
}

// Listed is what a list says of a container.
type Listed struct {
	ID      string
	Name    string
	Labels  map[string]string
	Phase   Phase
	Created time.Time
	Ports   []Published // that it has on the engine's host
}

// List lists the containers that have all the labels ("key" or "key=value"), those
// that have ended included.
func (c *Client) List(ctx context.Context, labels ...string) ([]Listed, error) {
	all, err := c.api.ContainerList(ctx, container.ListOptions{All: true, Filters: labelled(labels)})
	if err != nil {
		return nil, c.fail("list containers", "", err)
	}
	out := make([]Listed, len(all))
	for i, s := range all {
		out[i] = Listed{ID: s.ID, Labels: s.Labels, Phase: phaseOf(s.State), Created: time.Unix(s.Created, 0)}
		out[i].Name = ownName(s.Names)
		for _, p := range s.Ports {
			if p.PublicPort != 0 {
				out[i].Ports = append(out[i].Ports, Published{Address: p.IP, Host: int(p.PublicPort), Inside: int(p.PrivatePort), UDP: p.Type == "udp"})
			}
		}
	}
	return out, nil
}

// ownName is the name of a container itself: old links give it more, such as "/app/db".
func ownName(names []string) string {
	for _, n := range names {
		if n = trimName(n); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

func labelled(labels []string) filters.Args {
	f := filters.NewArgs()
	for _, l := range labels {
		f.Add("label", l)
	}
	return f
}

// Wait returns the exit code of a container when it has ended.
func (c *Client) Wait(ctx context.Context, name string) (int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended, errs := c.api.ContainerWait(ctx, name, container.WaitConditionNotRunning)
	select {
	case r := <-ended:
		return int(r.StatusCode), nil
	case err := <-errs:
		return 0, c.fail("wait for container", name, err)
	}
}
