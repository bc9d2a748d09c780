package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/docker/go-connections/nat"
)

// ServiceSpec is the container of a service that is to be made: one that others connect
// to, that keeps data, and that runs as its image wants to.
type ServiceSpec struct {
	Name       string
	Hostname   string // "" = the engine's choice
	Labels     map[string]string
	Image      string
	Entrypoint []string // nil = the image's
	Command    []string // nil = the image's
	Env        []string
	Dir        string
	User       string
	Ports      []Published
	Mounts     []ServiceMount
	Network    string   // "host", or one of the engine's
	Aliases    []string // by which others in that network reach it, beside its name
	StopSignal string
	CapDrop    []string
	CapAdd     []string
	NoNewPrivs bool
	ReadOnly   bool
	Init       bool
	MemBytes   int64
	CPUMilli   int64
	ShmBytes   int64
	LogBytes   int64 // 0 = without end
	LogFiles   int
}

// Published is a port of a container on the engine's host.
type Published struct {
	Address string
	Host    int // 0 = any
	Inside  int
	UDP     bool
}

// String is the form of docker run.
func (p Published) String() string {
	return fmt.Sprintf("%s:%d:%d", p.Address, p.Host, p.Inside)
}

// ServiceMount is a volume of the engine's, which is made when it is not there, or a
// path of its host, which has to be.
type ServiceMount struct {
	Volume, Source string // one of the two
	Target         string
	ReadOnly       bool
}

// CreateService makes a container and does not start it. The engine does not start it
// again by itself. The error matches ErrNameTaken when there is one of that name.
func (c *Client) CreateService(ctx context.Context, s ServiceSpec) (id string, err error) {
	exposed, bound := nat.PortSet{}, nat.PortMap{}
	for _, p := range s.Ports {
		proto := "tcp"
		if p.UDP {
			proto = "udp"
		}
		port := nat.Port(strconv.Itoa(p.Inside) + "/" + proto)
		exposed[port] = struct{}{}
		bound[port] = append(bound[port], nat.PortBinding{HostIP: p.Address, HostPort: portText(p.Host)})
	}
	conf := &container.Config{
		Hostname: s.Hostname, Image: s.Image, Entrypoint: s.Entrypoint, Cmd: s.Command, Env: s.Env, WorkingDir: s.Dir, User: s.User,
		Labels: s.Labels, ExposedPorts: exposed, StopSignal: s.StopSignal,
	}
	host := &container.HostConfig{
		NetworkMode: container.NetworkMode(s.Network), PortBindings: bound, CapDrop: s.CapDrop, CapAdd: s.CapAdd,
		ReadonlyRootfs: s.ReadOnly, ShmSize: s.ShmBytes, RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		Resources: container.Resources{NanoCPUs: s.CPUMilli * 1e6, Memory: s.MemBytes},
		LogConfig: jsonLog(s.LogBytes, s.LogFiles),
	}
	for _, m := range s.Mounts {
		one := mount.Mount{Type: mount.TypeBind, Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly}
		if m.Volume != "" {
			one.Type, one.Source = mount.TypeVolume, m.Volume
		}
		host.Mounts = append(host.Mounts, one)
	}
	if s.NoNewPrivs {
		host.SecurityOpt = []string{"no-new-privileges:true"}
	}
	if s.Init {
		host.Init = &s.Init
	}
	var net *network.NetworkingConfig
	if len(s.Aliases) > 0 {
		net = &network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{s.Network: {Aliases: s.Aliases}}}
	}
	made, err := c.api.ContainerCreate(ctx, conf, host, net, nil, s.Name)
	if err != nil {
		return "", c.fail(doingCreate, s.Name, err)
	}
	return made.ID, nil
}

func portText(n int) string {
	if n == 0 {
		return "" // any
	}
	return strconv.Itoa(n)
}

// RemoveService removes the container of a service, whatever it does, and leaves all its
// volumes.
func (c *Client) RemoveService(ctx context.Context, name string) error {
	if err := c.api.ContainerRemove(ctx, name, container.RemoveOptions{Force: true}); err != nil {
		return c.fail("remove container", name, err)
	}
	return nil
}

// Service is what an engine knows of the container of a service.
type Service struct {
	Container
	ImageRef string // as it was asked for
	Paused   bool
	Restarts bool // the engine starts it again by itself
	// Restarting: it has ended, and the engine is about to do so. Its phase is Running.
	Restarting bool
	Networks   map[string]netip.Addr
	Ports      []Published
	// Health is what the container's own check says: "", "starting", "healthy" or
	// "unhealthy"; HealthLog is what the last one printed.
	Health, HealthLog string
	HostNet           bool
}

// InspectService looks at the container of a service.
func (c *Client) InspectService(ctx context.Context, name string) (Service, error) {
	r, err := c.api.ContainerInspect(ctx, name)
	if err != nil {
		return Service{}, c.fail("look at container", name, err)
	}
	out := Service{Container: containerOf(r), Networks: map[string]netip.Addr{}}
	if r.Config != nil {
		out.ImageRef = r.Config.Image
	}
	if s := r.State; s != nil {
		out.Paused, out.Restarting = s.Paused, s.Restarting
		if h := s.Health; h != nil && h.Status != container.NoHealthcheck {
			out.Health = h.Status
			if n := len(h.Log); n > 0 {
				out.HealthLog = h.Log[n-1].Output
			}
		}
	}
	if h := r.HostConfig; h != nil {
		out.Restarts = h.RestartPolicy.Name != "" && h.RestartPolicy.Name != container.RestartPolicyDisabled
		out.HostNet = h.NetworkMode.IsHost()
	}
	if n := r.NetworkSettings; n != nil {
		for name, e := range n.Networks {
			addr, _ := netip.ParseAddr(e.IPAddress) // none while it does not run
			out.Networks[name] = addr
		}
		out.Ports = portsOf(n.Ports)
	}
	return out, nil
}

func portsOf(all nat.PortMap) (out []Published) {
	for port, bindings := range all {
		for _, b := range bindings {
			host, err := strconv.Atoi(b.HostPort)
			if err == nil {
				out = append(out, Published{Address: b.HostIP, Host: host, Inside: port.Int(), UDP: port.Proto() == "udp"})
			}
		}
	}
	return out
}

// EnsureNetwork makes a bridge of that name unless there is a network that has it.
func (c *Client) EnsureNetwork(ctx context.Context, name string, labels map[string]string) error {
	if _, err := c.api.NetworkInspect(ctx, name, network.InspectOptions{}); err == nil {
		return nil
	}
	if _, err := c.api.NetworkCreate(ctx, name, network.CreateOptions{Driver: "bridge", Labels: labels}); err != nil {
		if _, err := c.api.NetworkInspect(ctx, name, network.InspectOptions{}); err == nil {
			return nil // somebody else was faster
		}
		return c.fail("make network", name, err)
	}
	return nil
}

// JoinNetwork has a container be in a network, where it has the aliases. One that is in
// it already is left. One that was in a network of that name which is gone still means
// that one, and is moved. The error matches ErrNoNetwork when there is none of the name.
func (c *Client) JoinNetwork(ctx context.Context, name, id string, aliases ...string) error {
	n, err := c.api.NetworkInspect(ctx, name, network.InspectOptions{})
	if err != nil {
		return c.fail(doingNetwork, name, err)
	}
	r, err := c.api.ContainerInspect(ctx, id)
	if err != nil {
		return c.fail("look at container", id, err)
	}
	if e := endpoint(r, name); e != nil {
		if e.NetworkID == n.ID || e.NetworkID == "" || e.NetworkID == name { // it never ran; Podman's form
			return nil
		}
		if err := c.api.NetworkDisconnect(ctx, name, id, true); err != nil {
			return c.fail("disconnect from network", name, err)
		}
	}
	if err := c.api.NetworkConnect(ctx, name, id, &network.EndpointSettings{Aliases: aliases}); err != nil {
		return c.fail(doingJoin, name, err)
	}
	return nil
}

func endpoint(r container.InspectResponse, name string) *network.EndpointSettings {
	if r.NetworkSettings == nil {
		return nil
	}
	return r.NetworkSettings.Networks[name]
}

// mostExecOutput is how much is kept of what a command in a container prints.
const mostExecOutput = 4096

// Exec runs a command in a container, waits for it, and returns its exit code and the
// beginning of what it printed.
func (c *Client) Exec(ctx context.Context, name string, command []string) (code int, output string, err error) {
	made, err := c.api.ContainerExecCreate(ctx, name, container.ExecOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, "", c.fail("run a command in container", name, err)
	}
	conn, err := c.api.ContainerExecAttach(ctx, made.ID, container.ExecAttachOptions{})
	if err != nil {
		return 0, "", c.fail("run a command in container", name, err)
	}
	stop := context.AfterFunc(ctx, conn.Close)
	defer stop()
	defer conn.Close()
	var out bytes.Buffer
	_, err = stdcopy.StdCopy(&limited{w: &out, left: mostExecOutput}, &limited{w: &out, left: mostExecOutput}, conn.Reader)
	if ctx.Err() != nil {
		return 0, out.String(), ctx.Err()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, out.String(), c.fail("read from a command in container", name, err)
	}
	done, err := c.api.ContainerExecInspect(ctx, made.ID)
	if err != nil {
		return 0, out.String(), c.fail("run a command in container", name, err)
	}
	return done.ExitCode, out.String(), nil
}

// limited keeps the beginning.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	if n > 0 {
		l.left -= n
		if _, err := l.w.Write(p[:n]); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Usage is what a container has used since it began, and uses.
type Usage struct {
	CPU              time.Duration
	MemBytes         int64 // without what the kernel may take back
	RxBytes, TxBytes int64 // since it began
}

// Usage asks what a container uses, once: without the second for which the engine would
// compare.
func (c *Client) Usage(ctx context.Context, name string) (Usage, error) {
	r, err := c.api.ContainerStatsOneShot(ctx, name)
	if err != nil {
		return Usage{}, c.fail("ask for the usage of container", name, err)
	}
	defer r.Body.Close() //nolint:errcheck // only read from
	var s container.StatsResponse
	if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&s); err != nil {
		return Usage{}, c.fail("ask for the usage of container", name, err)
	}
	u := Usage{CPU: time.Duration(s.CPUStats.CPUUsage.TotalUsage), MemBytes: int64(s.MemoryStats.Usage)}
	for _, key := range []string{"inactive_file", "total_inactive_file"} { // of cgroup v2, and of v1
		if cache, ok := s.MemoryStats.Stats[key]; ok && cache < s.MemoryStats.Usage {
			u.MemBytes = int64(s.MemoryStats.Usage - cache)
			break
		}
	}
	for _, n := range s.Networks {
		u.RxBytes += int64(n.RxBytes)
		u.TxBytes += int64(n.TxBytes)
	}
	return u, nil
}
