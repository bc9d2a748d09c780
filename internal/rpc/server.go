package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/dspy-agent/dspy-agent/internal/access"
)

// Options are what a Server is made of. All are needed but those that say
// otherwise.
type Options struct {
	// Program is what the daemon is called in errors: "the orchestrator".
	Program string
	// Services are those that grpc.health.v1 tells about, by their full names.
	Services []string
	// Healthy says whether they can do their work now.
	Healthy func() bool
	Meter   Meter
	Logger  *slog.Logger
	// Stopping ends long calls when the server stops.
	Stopping error
	// SlowReader ends a stream whose reader takes nothing.
	SlowReader error

	// Token is what callers over TLS have to present. The zero Token lets nobody in
	// by TLS.
	Token access.Token
	// Scopes is that of access.TokenGuard: who else comes in by TLS, and to what. May be nil.
	Scopes func(method, word string) (scope string, ok bool)
	// StopTimeout bounds how long a stop waits for calls to end. Defaults to 5 s.
	StopTimeout time.Duration
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
	// Now tells the time. Defaults to time.Now.
	Now func() time.Time
}

// Meter counts what was answered.
type Meter interface {
	// RPC counts a gRPC call by its method ("pkg.Service/Method") and its code's name.
	RPC(method, code string)
	// HTTP counts a request by the path of its Route, "" for one of none, and its status.
	HTTP(path string, code int)
}

// Server serves what is registered with it, grpc.health.v1 and reflection. It is a
// grpc.ServiceRegistrar.
type Server struct {
	opts    Options
	log     *slog.Logger
	grpc    *grpc.Server
	streams sync.WaitGroup // what calls left behind

	sayRefused *rate.Limiter
	unsaid     atomic.Int64 // connections that were refused since the last line about them

	serving    context.Context // ends when the server begins to stop
	endServing context.CancelFunc
}

// MaxMessageBytes bounds one message in either direction: a batch of
// submissions, each with its payload, has to fit.
const MaxMessageBytes = 64 << 20

// maxStreams is how many calls one connection may have under way: more wait in
// the client. A program that waits for each of its tasks by a call of its own has
// hundreds.
const maxStreams = 1000

// New makes a Server that does not serve yet.
func New(opts Options) (*Server, error) {
	if opts.Program == "" || opts.Healthy == nil || opts.Meter == nil || opts.Logger == nil || opts.Stopping == nil || opts.SlowReader == nil {
		return nil, errors.New("rpc: an option that is needed is missing")
	}
	opts.StopTimeout = cmp.Or(opts.StopTimeout, 5*time.Second)
	opts.SendTimeout = cmp.Or(opts.SendTimeout, 30*time.Second)
	if opts.Pair {
		opts.SendTimeout = pairPatience
	}
	opts.HealthInterval = cmp.Or(opts.HealthInterval, time.Second)
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &Server{opts: opts, log: opts.Logger, sayRefused: rate.NewLimiter(rate.Every(logRefusedEvery), 1)}
	s.serving, s.endServing = context.WithCancel(context.Background())
	token := access.TokenGuard{Token: opts.Token, UID: uint32(os.Geteuid()), Scopes: opts.Scopes}
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
	grpc_health_v1.RegisterHealthServer(s.grpc, healthServer{Server: s})
	reflection.Register(s.grpc)
	return s, nil
}

// RegisterService adds a service, before Serve.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	s.grpc.RegisterService(desc, impl)
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
		s.endServing()
		return s.stop()
	})
	return g.Wait()
}

// ErrLeftBehind is for calls that go on although nobody waits for their answer.
var ErrLeftBehind = errors.New("calls do not end and are left behind")

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
		return fmt.Errorf("stop gRPC: %w", ErrLeftBehind)
	}
}

// Go runs what outlives its call by as long as gRPC takes to end it; Serve waits for it.
func (s *Server) Go(f func()) { s.streams.Go(f) }

// UntilStop returns a context that ends with the call's, or when the server
// stops; context.Cause then tells which.
func (s *Server) UntilStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	release := context.AfterFunc(s.serving, func() { cancel(s.opts.Stopping) })
	return ctx, func() {
		release()
		cancel(nil)
	}
}
