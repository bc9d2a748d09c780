package doctor

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
)

// Patient is what is examined. Its functions are called once each, by the check
// that needs them first. They may hang where a file server does.
type Patient struct {
	UID     int
	Environ []string // "K=V"
	Now     func() time.Time
	Version string // of this program
	// SupervisorSocket is the name of the process supervisor's socket in the runtime
	// directory; "" = there is no supervisor.
	SupervisorSocket string

	Load         func() Loaded
	Orchestrator func() (path string, err error) // finds the daemon's program
	Start        func(config.Config) string      // the command that starts the daemon
	Owner        func(queueDir string) (*Owner, error)
	Holder       func(queueDir string) (pid int) // who has the database open; 0 = nobody
	Health       func(context.Context, config.Config) (Health, error)
	DropFolder   func(queueDir string) error // why it cannot be used
	// Database looks at a database that nobody has open, and returns a sentence about each
	// thing that is wrong with it. There is none where looked is false, or somebody has it.
	Database func(ctx context.Context, queueDir string) (wrong []string, looked bool, err error)
	// Rejected counts the files of the drop folder that cannot be tasks.
	Rejected func(queueDir string) (int, error)

	// Root stands for / where the system's settings are looked at; "" = / itself.
	Root string
}

// Loaded is the configuration, as far as there is one.
type Loaded struct {
	Config config.Config
	Usable bool  // Config can be used
	Err    error // what is wrong with what was given; Config is without the file then
}

// Owner is what the file says that tells who has the queue open.
type Owner struct {
	Host       string
	BootID     string
	PID        int
	StartTicks uint64
	StartedAt  time.Time
	Socket     string
	GRPC, HTTP string // addresses over TCP; "" = none
}

// runs says whether the owner is a process of this host that is there.
func (o *Owner) runs() bool {
	return o != nil && host.Process{PID: o.PID, Start: o.StartTicks, Boot: o.BootID}.Runs()
}

// Health is what a daemon says about itself.
type Health struct {
	PID       int
	Version   string
	Healthy   bool              // it accepts tasks
	Parts     map[string]string // "ok", "off", "down: why" ...
	StartedAt time.Time
	LogFile   string
	Stale     string // says that the configuration file is another one than it has read; "" = it is not
}

// examination is a Patient under examination: what several checks want to know is
// found out once.
type examination struct {
	Patient
	loaded     func() Loaded
	owner      func() (*Owner, error)
	health     func() (Health, error)
	supervisor func() (listening, error)
}

func newExamination(ctx context.Context, p Patient) *examination {
	x := &examination{Patient: p}
	x.loaded = sync.OnceValue(p.Load)
	x.owner = sync.OnceValues(func() (*Owner, error) { return p.Owner(x.loaded().Config.QueueDir) })
	x.health = sync.OnceValues(func() (Health, error) {
		ctx, cancel := context.WithTimeout(ctx, Patience)
		defer cancel()
		return p.Health(ctx, x.loaded().Config)
	})
	x.supervisor = sync.OnceValues(func() (listening, error) {
		path := filepath.Join(filepath.Dir(x.socket(x.loaded().Config)), p.SupervisorSocket)
		return listenerOf(ctx, path, p.UID)
	})
	return x
}

// liveOwner returns the owner of the queue if it runs on this host, else nil.
func (x *examination) liveOwner() *Owner {
	if o, err := x.owner(); err == nil && o.runs() {
		return o
	}
	return nil
}

// socket returns where the daemon listens: where the one that runs says, else where
// one would that is started here.
func (x *examination) socket(cfg config.Config) string {
	if o := x.liveOwner(); o != nil && o.Socket != "" {
		return o.Socket
	}
	return runtimedir.SocketPath(runtimedir.Path(cfg.RuntimeDir, x.UID), cfg.QueueDir)
}

// getenv returns the last value of a variable.
func (x *examination) getenv(name string) string {
	value := ""
	for _, kv := range x.Environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k == name {
			value = v
		}
	}
	return value
}

// system returns the path of a file of the system.
func (x *examination) system(path string) string { return filepath.Join(x.Root, path) }
