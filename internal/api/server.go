package api

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/payload"
	"github.com/dspy-agent/dspy-agent/internal/rpc"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// Options are what a Server is made of. All are needed but those that say
// otherwise.
type Options struct {
	Queue   Queue
	Log     Log
	Mover   Mover
	Outputs Outputs
	Metrics Metrics
	Pauser  Pauser
	Keeper  Keeper
	// Stats tells how the queue is, by class.
	Stats func() (QueueStats, error)
	// Class resolves the name of a class ("" = the default one), or refuses it.
	Class func(name string) (Class, error)
	// AdmitContainer refuses a task in a container that asks for what containers are not given here;
	// nil = nobody knows.
	AdmitContainer func(*task.Spec) error
	// Types are the task types that a payload may name. May be nil.
	Types payload.Types
	// Jobs knows of tasks that become jobs of Slurm; nil = none does.
	Jobs Jobs
	// GPUs are this machine's; nil = none are given out, and nobody knows of any.
	GPUs GPUs
	// Info tells about the daemon, now.
	Info func() Info
	// Workers hands out tasks to workers; nil = nobody does.
	Workers lease.Owner
	// WorkerOf says which worker has a secret; nil = none has one.
	WorkerOf func(word string) (worker string, ok bool)
	// Machine is what there is for tasks; one that needs more is warned about.
	Machine Machine
	// Missing says why nothing on this host could run a task, as the rest of "it was
	// accepted, but"; "" = something may. nil = nobody knows.
	Missing func(task.Task) string
	// Workspace is the working directory of tasks that name none.
	Workspace string
	Logger    *slog.Logger

	// Token is what callers over TLS have to present. The zero Token lets nobody in
	// by TLS.
	Token access.Token
	// StopTimeout bounds how long a stop waits for calls to end. Defaults to 5 s.
	StopTimeout time.Duration
	// Images lists the images that waiting tasks need, in order; nil = there are none.
	Images func() []NeededImage
	// PruneImages removes images that were fetched and are not needed; nil = nobody here can.
	PruneImages func(ctx context.Context, dry bool) ([]PrunedImage, error)
	// SendTimeout is how long a message of a stream waits for its reader, before
	// the stream is cut off. Defaults to 30 s.
	SendTimeout time.Duration
	// Pair says that the only connection is the one of Pair. Who calls is stopped and goes on
	// together with the server (Ctrl-Z, a lid that is closed), and the clock goes on meanwhile:
	// silence means nothing there, and what has ended cannot be made again.
	Pair bool
	// HealthInterval is how often is looked, for each watcher of grpc.health.v1,
	// whether the health has changed. Defaults to 1 s.
	HealthInterval time.Duration
	// MaxSubmitBytes is how many bytes of gRPC's submissions are given to the queue at
	// once; others wait, and beyond four times as much they are sent away. Defaults to
	// rpc.MaxMessageBytes.
	MaxSubmitBytes int64
	// Now tells the time. Defaults to time.Now.
	Now func() time.Time
}

// Class is what the server has to know of a class of tasks.
type Class struct {
	Name string // an alias resolved
	// GPUs is how many tasks of the class get that do not say what they need.
	GPUs int
	// Elsewhere says that its tasks may run on other machines than this one.
	Elsewhere bool
	// Image is the container image of tasks of the class that name none; "" = none.
	Image string
	// Timeout ends tasks of the class that name none; 0 = nothing does.
	Timeout time.Duration
}

// Server serves OrchestratorService, grpc.health.v1 and reflection.
type Server struct {
	opts     Options
	log      *slog.Logger
	rpc      *rpc.Server
	feed     *feed
	endings  endings
	inflight *inflight

	copying sync.Mutex // held while the queue is copied
}

// service carries the RPCs; those that it does not define itself (workflows) are
// answered with Unimplemented.
type service struct {
	pb.UnimplementedOrchestratorServiceServer
	*Server
}

// errStopping ends long calls when the server stops.
var errStopping = task.Errorf(task.CodeUnavailable,
	"the daemon is stopping; running tasks go on: connect again, and resume a stream behind the last index or offset it gave")

// errSlowReader ends a stream whose reader takes nothing. What it has not read
// is still in the event log or in the output, and is sent when it comes back.
var errSlowReader = task.Errorf(task.CodeExhausted,
	"this stream was cut off, because its reader took nothing for too long; connect again, and resume behind the last index or offset that you read")

// New makes a Server that does not serve yet.
func New(opts Options) (*Server, error) {
	if opts.Queue == nil || opts.Log == nil || opts.Mover == nil || opts.Outputs == nil ||
		opts.Metrics == nil || opts.Pauser == nil || opts.Keeper == nil || opts.Stats == nil || opts.Class == nil || opts.Info == nil || opts.Logger == nil || opts.Workspace == "" {
		return nil, errors.New("api: an option that is needed is missing")
	}
	opts.MaxSubmitBytes = cmp.Or(opts.MaxSubmitBytes, rpc.MaxMessageBytes)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{
		opts: opts, log: opts.Logger.With("component", "api"), feed: newFeed(opts.Log), inflight: newInflight(opts.MaxSubmitBytes),
	}
	var err error
	s.rpc, err = rpc.New(rpc.Options{
		Program: "the orchestrator", Services: []string{pb.OrchestratorService_ServiceDesc.ServiceName},
		Healthy: func() bool { return opts.Info().Healthy },
		Meter:   opts.Metrics, Logger: s.log, Now: opts.Now,
		Stopping: errStopping, SlowReader: errSlowReader,
		Token: opts.Token, Scopes: workerScope(opts.WorkerOf), Pair: opts.Pair,
		StopTimeout: opts.StopTimeout, SendTimeout: opts.SendTimeout, HealthInterval: opts.HealthInterval,
	})
	if err != nil {
		return nil, err
	}
	pb.RegisterOrchestratorServiceServer(s.rpc, service{Server: s})
	return s, nil
}

// Serve takes calls from the listeners, which it closes, until ctx ends. Then
// streams and waits end at once with CodeUnavailable, other calls are given
// StopTimeout, those that are cut off half of that again, and Serve returns nil
// with no call left, or an error. It may be called once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	s.feed.begin()
	g.Go(func() error { return s.feed.follow(ctx) })
	g.Go(func() error { return s.rpc.Serve(ctx, listeners...) })
	return g.Wait()
}
