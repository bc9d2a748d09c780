package app

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/access"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/lease"
	"github.com/dspy-agent/dspy-agent/internal/runtimedir"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/workers"
)

// reach is how a worker gets at the owner of its queue: by the socket where that is on
// this host, by TLS where its folder says how, and else through files.
type reach struct {
	conf   config.Config
	folder lease.Folder
	by     string // the only way to try; "" = all
	log    *slog.Logger
	files  *api.FileConn
	wg     sync.WaitGroup
	stop   context.CancelFunc

	mu     sync.Mutex
	client *api.Client // nil: through files
	way    string
}

var _ lease.Owner = (*reach)(nil)

// The ways to reach an owner.
const (
	waySocket = "socket"
	wayTLS    = "tls"
	wayFiles  = "files"
)

// WorkerWays are their names.
var WorkerWays = []string{waySocket, wayTLS, wayFiles}

func (r *reach) may(way string) bool { return r.by == "" || r.by == way }

// Pauses between two tries to connect.
const (
	connectFirst = time.Second
	connectLast  = time.Minute
)

func newReach(c config.Config, f lease.Folder, by string, log *slog.Logger) *reach {
	ctx, stop := context.WithCancel(context.Background())
	r := &reach{conf: c, folder: f, by: by, log: log, files: api.NewFileConn(f), stop: stop}
	r.connect(ctx)
	r.wg.Go(func() { _ = r.files.Run(ctx) }) // never fails
	r.wg.Go(func() { r.keep(ctx) })
	return r
}

// keep tries to connect while there is no connection.
func (r *reach) keep(ctx context.Context) {
	for pause := connectFirst; ; {
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		if r.connected() || r.connect(ctx) {
			pause = connectFirst
			continue
		}
		pause = min(2*pause, connectLast)
	}
}

func (r *reach) connected() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.client != nil
}

func (r *reach) connect(ctx context.Context) bool {
	c, way, err := r.dial(ctx)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		way = wayFiles
		r.log.Debug("no connection to the owner of the queue; it is asked through files", "error", err)
	}
	if way != r.way {
		r.log.Info("the owner of the queue is asked", "by", way)
	}
	r.client, r.way = c, way
	return err == nil
}

// errNoWay says that the folder does not tell how to connect.
var errNoWay = errors.New("there is no socket here, and no secret in the worker's folder")

func (r *reach) dial(ctx context.Context) (*api.Client, string, error) {
	if r.may(waySocket) {
		socket := runtimedir.SocketPath(runtimedir.Path(r.conf.RuntimeDir, os.Geteuid()), r.conf.QueueDir)
		if _, err := os.Stat(socket); err == nil {
			if c, err := api.Dial(ctx, api.Target{Socket: socket, Workspace: r.conf.Workspace}); err == nil {
				return c, waySocket, nil
			}
		}
	}
	if !r.may(wayTLS) {
		return nil, "", errNoWay
	}
	s, err := workers.ReadSecret(r.folder)
	if err != nil {
		return nil, "", errors.Join(errNoWay, err)
	}
	cert, err := access.ParsePEM(s.Cert, time.Now())
	if err != nil {
		return nil, "", err
	}
	c, err := api.Dial(ctx, api.Target{Addr: s.Addr, Cert: cert, Word: s.Word, Workspace: r.conf.Workspace})
	return c, wayTLS, err
}

// call makes a call by the connection, or through files where there is none or it breaks.
func (r *reach) call(ctx context.Context, do func(lease.Owner) error) error {
	r.mu.Lock()
	c := r.client
	r.mu.Unlock()
	if c == nil {
		return do(api.NewLeaseOwner(r.files))
	}
	err := do(api.NewLeaseOwner(c.Conn()))
	if err == nil || ctx.Err() != nil || task.CodeOf(err) != task.CodeUnavailable && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	r.drop(c)
	return err
}

// drop gives up a connection that does not work. keep makes another.
func (r *reach) drop(c *api.Client) {
	r.mu.Lock()
	mine := r.client == c
	if mine {
		r.client = nil
	}
	r.mu.Unlock()
	if mine {
		_ = c.Close() // it does not work, and why has been told
	}
}

func (r *reach) close() {
	r.stop()
	r.wg.Wait()
	if r.client != nil {
		_ = r.client.Close() // nothing is under way
	}
}

// Lease asks for attempts.
func (r *reach) Lease(ctx context.Context, w lease.Want) (g lease.Grant, err error) {
	err = r.call(ctx, func(o lease.Owner) (err error) { g, err = o.Lease(ctx, w); return err })
	return g, err
}

// Extend asks for orders.
func (r *reach) Extend(ctx context.Context, h lease.Hold) (o lease.Orders, err error) {
	err = r.call(ctx, func(by lease.Owner) (err error) { o, err = by.Extend(ctx, h); return err })
	return o, err
}

// Complete reports.
func (r *reach) Complete(ctx context.Context, id string, reports []lease.Report) (settled []task.Ref, err error) {
	err = r.call(ctx, func(o lease.Owner) (err error) { settled, err = o.Complete(ctx, id, reports); return err })
	return settled, err
}
