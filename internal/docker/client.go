package docker

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
)

// DefaultHost is where Docker listens unless it was told otherwise.
const DefaultHost = client.DefaultDockerHost

// oldest is the oldest API that has all that is asked for: Engine 20.10's.
const oldest = "1.40"

// Options say which engine is meant.
type Options struct {
	// Host is as in DOCKER_HOST: unix:///path or tcp://host:port; "" = DefaultHost.
	Host string
	// CertDir has ca.pem, cert.pem and key.pem for TLS, as DOCKER_CERT_PATH; "" = none.
	CertDir string
	// ConfigDir is the folder of the user's config.json, with credentials for
	// registries; "" = there are none.
	ConfigDir string
	// Path is where credential helpers are looked for, as PATH; "" = nowhere.
	Path string
	// Pulse is how often an engine from which nothing is heard is asked whether it still
	// answers, and how long it may take for it; 0 = 10 s.
	Pulse time.Duration
}

// Client calls one engine. It may be used by many goroutines.
type Client struct {
	api   *client.Client
	host  string
	local bool
	creds credentials
	pause time.Duration // between two questions whether it still answers
}

// New makes a client. It calls nobody.
func New(o Options) (*Client, error) {
	if o.Host == "" {
		o.Host = DefaultHost
	}
	scheme, _, _ := strings.Cut(o.Host, "://")
	opts := []client.Opt{client.WithHost(o.Host), client.WithAPIVersionNegotiation()}
	switch scheme {
	case "unix":
	case "tcp", "http", "https":
		if o.CertDir != "" {
			opts = append(opts, client.WithTLSClientConfig(
				filepath.Join(o.CertDir, "ca.pem"), filepath.Join(o.CertDir, "cert.pem"), filepath.Join(o.CertDir, "key.pem")))
		}
	default:
		return nil, fmt.Errorf("%w: DOCKER_HOST is %q; it must be unix:///PATH or tcp://HOST:PORT (to reach an engine by ssh, forward its socket: ssh -L /tmp/docker.sock:/var/run/docker.sock HOST)", ErrInvalid, o.Host)
	}
	api, err := client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: DOCKER_HOST %q: %w", ErrInvalid, o.Host, err)
	}
	return &Client{api: api, host: o.Host, local: scheme == "unix", creds: credentials{dir: o.ConfigDir, path: o.Path}, pause: cmp.Or(o.Pulse, pulseEvery)}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() error { return c.api.Close() }

// Host is where the engine is called.
func (c *Client) Host() string { return c.host }

// Local says that the engine sees the same files as this process, as far as can be
// told from how it is called.
func (c *Client) Local() bool { return c.local }

// Machine is the name or address of the machine where the engine is; "" = it is this one,
// as far as can be told from how it is called.
func (c *Client) Machine() string {
	u, err := url.Parse(c.host)
	if err != nil || c.local {
		return ""
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return ""
	}
	return host
}

// Engine is what an engine says of itself.
type Engine struct {
	ID       string
	Name     string // of its host
	Version  string
	API      string // that was agreed on
	OS, Arch string
	CPUs     int
	MemBytes int64
	Rootless bool // root in a container is the engine's user outside
	Init     bool // it has an init to put before a program
	Podman   bool
	Desktop  bool // it runs in a virtual machine of Docker Desktop
	Systemd  bool // cgroups are systemd's
	// UsersMapped says that users in containers are others outside: what belongs to a user
	// here cannot be written to there.
	UsersMapped bool
}

// Connect asks the engine who it is, and agrees on the version of the API. It is
// to be called again after the engine was away: it may be another one then.
func (c *Client) Connect(ctx context.Context) (Engine, error) {
	ping, err := c.api.Ping(ctx)
	if err != nil {
		return Engine{}, c.fail("reach the engine", "", err)
	}
	c.api.NegotiateAPIVersionPing(ping)
	if v := c.api.ClientVersion(); versions.LessThan(v, oldest) {
		return Engine{}, fmt.Errorf("%w: the engine at %s speaks API %s; %s is needed, which Docker has since 19.03: upgrade it", ErrTooOld, c.host, v, oldest)
	}
	info, err := c.api.Info(ctx)
	if err != nil {
		return Engine{}, c.fail("ask the engine about itself", "", err)
	}
	e := Engine{
		ID: info.ID, Name: info.Name, Version: info.ServerVersion, API: c.api.ClientVersion(), OS: info.OSType, Arch: info.Architecture,
		CPUs: info.NCPU, MemBytes: info.MemTotal, Init: info.InitBinary != "",
		Systemd: info.CgroupDriver == "systemd", Desktop: info.OperatingSystem == "Docker Desktop",
	}
	for _, s := range info.SecurityOptions {
		e.Rootless = e.Rootless || s == "name=rootless" || s == "rootless"
		e.UsersMapped = e.UsersMapped || s == "name=userns"
	}
	if v, err := c.api.ServerVersion(ctx); err == nil {
		for _, part := range v.Components {
			e.Podman = e.Podman || part.Name == "Podman Engine"
		}
	}
	return e, nil
}
