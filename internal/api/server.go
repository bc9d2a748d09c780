package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/payload"
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
	// MaxMessageBytes.
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
	grpc     *grpc.Server
	feed     *feed
	endings  endings
	inflight *inflight
	streams  sync.WaitGroup // what guarded left behind

	sayRefused *rate.Limiter
	unsaid     atomic.Int64 // connections that were refused since the last line about them

	// serving ends when the server begins to stop. It is set once, before the
	// first call is taken.
	serving context.Context

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

// maxStreams is how many calls one connection may have under way: more wait in
// the client. A program that waits for each of its tasks by a call of its own has
// hundreds.
const maxStreams = 1000

// New makes a Server that does not serve yet.
func New(opts Options) (*Server, error) {
	if opts.Queue == nil || opts.Log == nil || opts.Mover == nil || opts.Outputs == nil ||
		opts.Metrics == nil || opts.Pauser == nil || opts.Keeper == nil || opts.Stats == nil || opts.Class == nil || opts.Info == nil || opts.Logger == nil || opts.Workspace == "" {
		return nil, errors.New("api: an option that is needed is missing")
	}
	opts.StopTimeout = orDefault(opts.StopTimeout, 5*time.Second)
	opts.SendTimeout = orDefault(opts.SendTimeout, 30*time.Second)
	if opts.Pair {
		opts.SendTimeout = pairPatience
	}
	opts.HealthInterval = orDefault(opts.HealthInterval, time.Second)
	opts.MaxSubmitBytes = orDefault(opts.MaxSubmitBytes, MaxMessageBytes)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{
		opts: opts, log: opts.Logger.With("component", "api"), feed: newFeed(opts.Log), inflight: newInflight(opts.MaxSubmitBytes),
		sayRefused: rate.NewLimiter(rate.Every(logRefusedEvery), 1),
	}
	token := access.TokenGuard{Token: opts.Token, UID: uint32(os.Geteuid()), Scopes: workerScope(opts.WorkerOf)}
	s.grpc = grpc.NewServer(
		grpc.Creds(peerCreds{doors: doors{"unix": sameUser(uint32(os.Geteuid()))}, refused: s.logRefused}),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		grpc.MaxSendMsgSize(MaxMessageBytes),
		grpc.KeepaliveParams(opts.keepalive()),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(opts.greetTimeout()),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.InTapHandle(token.Tap),
		grpc.UnaryInterceptor(s.unary),
		grpc.StreamInterceptor(s.stream),
	)
	pb.RegisterOrchestratorServiceServer(s.grpc, service{Server: s})
	grpc_health_v1.RegisterHealthServer(s.grpc, healthServer{Server: s})
	reflection.Register(s.grpc)
	return s, nil
}

// keepalive finds out whether a silent client is still there.
func (o *Options) keepalive() keepalive.ServerParameters {
	if o.Pair {
		return keepalive.ServerParameters{Time: pairPatience}
	}
	return keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}
}

// greetTimeout is how long a new connection may take until it speaks gRPC.
func (o *Options) greetTimeout() time.Duration {
	if o.Pair {
		return pairPatience
	}
	return 10 * time.Second
}

// Serve takes calls from the listeners, which it closes, until ctx ends. Then
// streams and waits end at once with CodeUnavailable, other calls are given
// StopTimeout, those that are cut off half of that again, and Serve returns nil
// with no call left, or an error. It may be called once.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	s.serving = ctx
	s.feed.begin()
	g.Go(func() error { return s.feed.follow(ctx) })
	for _, lis := range listeners {
		g.Go(func() error {
			if err := s.grpc.Serve(lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				return fmt.Errorf("serve on %s: %w", lis.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		return s.stop()
	})
	return g.Wait()
}

// errLeftBehind is for calls that go on although nobody waits for their answer.
var errLeftBehind = errors.New("calls do not end and are left behind")

// stop lets calls end by themselves, cuts off those that do not in time, such as
// a stream whose reader does not read, and leaves behind those that go on even
// then: one may hang at a disk, and the daemon is to end all the same.
func (s *Server) stop() error {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.grpc.GracefulStop()
		s.streams.Wait()
	}()
	late := time.NewTimer(s.opts.StopTimeout)
	defer late.Stop()
	select {
	case <-ended:
		return nil
	case <-late.C:
	}
	s.grpc.Stop()
	late.Reset(s.opts.StopTimeout / 2)
	select {
	case <-ended:
		return nil
	case <-late.C:
		return fmt.Errorf("stop gRPC: %w", errLeftBehind)
	}
}

// untilStop returns a context that ends with the call's, or when the server
// stops; context.Cause then tells which.
func (s *Server) untilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(s.serving, func() { cancel(errStopping) })
	return ctx, func() {
		release()
		cancel(nil)
	}
}

func (s *Server) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (reply any, err error) {
	err = s.survive(func() (err error) {
		reply, err = handle(ctx, req)
		return err
	})
	return reply, s.answer(ctx, info.FullMethod, err)
}

// errPanicked is the end of a call that met a fault of ours.
var errPanicked = errors.New("this call met a fault of the orchestrator; its log has more")

// survive makes of a panic the failure of one call.
func (s *Server) survive(call func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("a gRPC call panicked", "panic", p, "stack", string(debug.Stack()))
			err = errPanicked
		}
	}()
	return call()
}

func (s *Server) stream(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	if strings.HasPrefix(info.FullMethod, reflectionPrefix) {
		handle = s.endingWithServer(handle)
	}
	err := s.survive(func() error { return handle(srv, stream) })
	return s.answer(stream.Context(), info.FullMethod, err)
}

// reflectionPrefix begins the methods of a service that is not ours.
const reflectionPrefix = "/grpc.reflection."

// endingWithServer is for a stream that would wait for its client's next question
// while the server stops. The end of the call ends its handler.
func (s *Server) endingWithServer(handle grpc.StreamHandler) grpc.StreamHandler {
	return func(srv any, stream grpc.ServerStream) error {
		done := make(chan error, 1)
		s.streams.Go(func() { done <- s.survive(func() error { return handle(srv, stream) }) })
		select {
		case err := <-done:
			return err
		case <-s.serving.Done():
			return errStopping
		}
	}
}

// answer turns the error of a call into what travels, counts the call, and logs
// what is a fault of ours.
func (s *Server) answer(ctx context.Context, method string, err error) error {
	travels := toStatus(err)
	s.opts.Metrics.RPC(strings.TrimPrefix(method, "/"), status.Code(travels).String())
	if err == nil {
		return nil
	}
	if task.CodeOf(err) == task.CodeInternal && !isStatus(err) && ctx.Err() == nil {
		s.log.Error("call failed", "method", method, "error", err)
	}
	return travels
}

// logRefusedEvery is how often a line is written about connections that were
// refused. Whoever is refused must not be able to fill the disk.
const logRefusedEvery = 10 * time.Second

func (s *Server) logRefused(_ net.Conn, err error) {
	unsaid := s.unsaid.Add(1)
	if s.sayRefused.Allow() {
		s.unsaid.Add(-unsaid)
		s.log.Warn("connection refused", "error", err, "suppressed", unsaid-1)
	}
}
