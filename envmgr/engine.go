package envmgr

import (
	"context"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// Engine is what is needed of a container engine; *docker.Client is one.
type Engine interface {
	Sights
	Hands
	EnsureNetwork(ctx context.Context, name string, labels map[string]string) error
	JoinNetwork(ctx context.Context, name, id string, aliases ...string) error
}

// Sights are what tells how things are.
type Sights interface {
	Follow(ctx context.Context, labels []string, h docker.Handler)
	List(ctx context.Context, labels ...string) ([]docker.Listed, error)
	InspectService(ctx context.Context, name string) (docker.Service, error)
	Image(ctx context.Context, ref string) (docker.Image, error)
	Logs(ctx context.Context, name string, o docker.LogOptions, take func(docker.Entry) error, idle func() error) error
	Exec(ctx context.Context, name string, command []string) (code int, output string, err error)
}

// Hands are what changes them.
type Hands interface {
	Pull(ctx context.Context, ref string, progress func(docker.Progress)) error
	CreateService(ctx context.Context, s docker.ServiceSpec) (id string, err error)
	Start(ctx context.Context, name string) error
	Stop(ctx context.Context, name string, grace time.Duration) error
	RemoveService(ctx context.Context, name string) error
}

var _ Engine = (*docker.Client)(nil)
