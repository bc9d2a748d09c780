package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
)

// HTTPOptions are how HTTP is served. Peer is needed.
type HTTPOptions struct {
	// Peer tells who sent a request; ok is false when nobody knows, and the request
	// is refused. What it says about the door is replaced by "http".
	Peer func(*http.Request) (who Peer, ok bool)
	// ConnContext, when it is not nil, is called for every connection, and adds to
	// the context of its requests what Peer looks for.
	ConnContext func(context.Context, net.Conn) context.Context
	// Guard, when it is not nil, stands before all that is answered. It answers what
	// it refuses itself, and may change the context of the rest.
	Guard func(http.Handler) http.Handler

	// HeaderTimeout is how long the header of a request may take. Defaults to 5 s.
	HeaderTimeout time.Duration
	// ReadTimeout is how long a whole request may take to come in. Defaults to 30 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long it may take from the header until the answer is
	// sent. Defaults to 60 s, and is to be longer than ReadTimeout.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. Defaults
	// to 2 min.
	IdleTimeout time.Duration
	// MaxBody bounds one request, in bytes. Defaults to 10 MiB.
	MaxBody int64
	// MaxBodies bounds those that are in memory at one time, together, in bytes.
	// Defaults to 64 MiB.
	MaxBodies int64
	// MaxRequests is how many requests are worked on at one time. Defaults to 256.
	MaxRequests int
}

// maxHeaderBytes bounds the header of a request.
const maxHeaderBytes = 64 << 10

// HTTP answers Routes beside a Server, of which it has the name, the meter, the log and
// the patience of a stop.
type HTTP struct {
	server *Server
	log    *slog.Logger
	opts   HTTPOptions
	http   *http.Server
	mux    *http.ServeMux
	fresh  newcomers
	slots  chan struct{}       // one for each request that is worked on
	room   *semaphore.Weighted // for bodies, in bytes
}

// NewHTTP makes an HTTP that does not serve yet.
func NewHTTP(s *Server, routes []Route, o HTTPOptions) (*HTTP, error) {
	if o.Peer == nil {
		return nil, errors.New("rpc: HTTP cannot be served without knowing who asks")
	}
	o = o.withDefaults()
	h := &HTTP{
		server: s, log: s.log, opts: o,
		slots: make(chan struct{}, o.MaxRequests), room: semaphore.NewWeighted(o.MaxBodies),
	}
	h.http = &http.Server{
		Handler:           h.handler(routes),
		ReadHeaderTimeout: o.HeaderTimeout, ReadTimeout: o.ReadTimeout, WriteTimeout: o.WriteTimeout, IdleTimeout: o.IdleTimeout,
		MaxHeaderBytes: maxHeaderBytes,
		ConnContext:    o.ConnContext,
		ConnState:      h.fresh.note,
		// What clients do wrong below HTTP is theirs to mend.
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	return h, nil
}

func (o HTTPOptions) withDefaults() HTTPOptions {
	o.HeaderTimeout = cmp.Or(o.HeaderTimeout, 5*time.Second)
	o.ReadTimeout = cmp.Or(o.ReadTimeout, 30*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, time.Minute)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 2*time.Minute)
	o.MaxBody = cmp.Or(o.MaxBody, 10<<20)
	o.MaxBodies = cmp.Or(o.MaxBodies, 64<<20)
	o.MaxRequests = cmp.Or(o.MaxRequests, 256)
	return o
}

// MaxRequests is how many requests are worked on at one time.
func (h *HTTP) MaxRequests() int { return cap(h.slots) }

// Serve answers requests from the listeners, which it closes, until ctx ends. Then
// those under way are given Options.StopTimeout to end, those that are cut off half
// of that again, and Serve returns nil with none left, or an error that says how
// many are. It may be called once.
func (h *HTTP) Serve(ctx context.Context, listeners ...net.Listener) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, lis := range listeners {
		g.Go(func() error {
			if err := h.http.Serve(lis); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serve HTTP on %s: %w", lis.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		return h.stop(context.WithoutCancel(ctx))
	})
	return g.Wait()
}

// stop lets requests end by themselves, cuts off those that do not in time, and
// leaves behind those that go on even then: one may hang at a disk, and the daemon
// is to end all the same.
func (h *HTTP) stop(ctx context.Context) error {
	patience := h.server.opts.StopTimeout
	graceful, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	h.fresh.closeAll()
	if h.http.Shutdown(graceful) == nil {
		return nil
	}
	if err := h.http.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close HTTP connections: %w", err)
	}
	// The handlers of what was cut off end with their requests' contexts.
	cut := time.NewTimer(patience / 2)
	defer cut.Stop()
	for ended := range cap(h.slots) {
		select {
		case h.slots <- struct{}{}:
		case <-cut.C:
			return fmt.Errorf("stop HTTP: %d %w", cap(h.slots)-ended, ErrLeftBehind)
		}
	}
	return nil
}
