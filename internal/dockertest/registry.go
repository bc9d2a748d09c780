package dockertest

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	dockerregistry "github.com/docker/docker/api/types/registry"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A Registry serves images in an engine's network, in memory. Its faults are for
// those who pull: Push goes past them.
type Registry struct {
	address string
	images  http.Handler

	mu             sync.Mutex
	rate           int // bytes a second of each layer; 0 = as fast as it goes
	cutAfter       int64
	cuts           int
	user, password string
	asked          map[string]int // path of a manifest or blob -> how often it was fetched
}

// NewRegistry starts a registry that the engine reaches, and nobody else. It ends
// with the test.
func NewRegistry(t testing.TB, e *Engine) *Registry {
	t.Helper()
	l, err := e.Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Registry{
		address: l.Addr().String(),
		images:  registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		asked:   map[string]int{},
	}
	// Those who are being served slowly are told so at the end.
	ctx, stop := context.WithCancel(context.Background())
	server := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l) //nolint:errcheck // it says that it was closed
	}()
	t.Cleanup(func() {
		stop()
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return r
}

// Push puts an image into it, and returns the name by which the engine pulls it.
func (r *Registry) Push(t testing.TB, tag string, img v1.Image) string {
	t.Helper()
	ref, err := name.ParseReference(r.address + "/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithTransport(direct{r.images}), remote.WithContext(t.Context())); err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
	return ref.String()
}

// direct asks a server without a network.
type direct struct{ server http.Handler }

// RoundTrip answers one request.
func (d direct) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Body == nil {
		req.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.server.ServeHTTP(w, req)
	answer := w.Result()
	answer.Request = req
	return answer, nil
}

// Address returns where the engine finds it: host and port.
func (r *Registry) Address() string { return r.address }

// Slow serves every layer with so many bytes a second from now on, also those that
// are on their way; 0 = as fast as it goes.
func (r *Registry) Slow(rate int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.rate = rate
}

// Cut breaks the connection after so many bytes of a layer, in the next so many
// answers that are longer. Engines try again, and ask for the rest.
func (r *Registry) Cut(after int64, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cutAfter, r.cuts = after, times
}

// RequireLogin serves only those who know a user's password from now on; "" =
// everybody.
func (r *Registry) RequireLogin(user, password string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.user, r.password = user, password
}

// Login returns what a pull has to bring for a user.
func (r *Registry) Login(t testing.TB, user, password string) string {
	t.Helper()
	text, err := dockerregistry.EncodeAuthConfig(dockerregistry.AuthConfig{Username: user, Password: password, ServerAddress: r.address})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Fetched returns how often layers and settings of images were fetched, or begun
// to be.
func (r *Registry) Fetched() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, times := range r.asked {
		n += times
	}
	return n
}

// ServeHTTP answers an engine, with the faults that are arranged.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if !r.welcome(req) {
		w.Header().Set("WWW-Authenticate", `Basic realm="dockertest"`)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		return
	}
	if req.Method == http.MethodGet && strings.Contains(req.URL.Path, "/blobs/") {
		r.note(req.URL.Path)
		r.closeRange(req)
		w = &faulty{ResponseWriter: w, registry: r, ctx: req.Context()}
	}
	r.images.ServeHTTP(w, req)
}

// closeRange names the end of what is asked for, where it is that of the layer: so
// engines ask for the rest, and the registry behind us knows only ranges with two
// ends.
func (r *Registry) closeRange(req *http.Request) {
	from, open := strings.CutSuffix(req.Header.Get("Range"), "-")
	if !open {
		return
	}
	head := req.Clone(req.Context())
	head.Method = http.MethodHead
	w := httptest.NewRecorder()
	r.images.ServeHTTP(w, head)
	size, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	if err == nil {
		req.Header.Set("Range", fmt.Sprintf("%s-%d", from, size-1))
	}
}

func (r *Registry) welcome(req *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	user, password, _ := req.BasicAuth()
	return r.user == "" || user == r.user && password == r.password
}

func (r *Registry) note(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked[path]++
}

// faulty is an answer with the faults of a registry.
type faulty struct {
	http.ResponseWriter
	registry *Registry
	ctx      context.Context
	sent     int64
}

// Write sends in pieces of a twentieth of a second, or stops in the middle.
func (f *faulty) Write(b []byte) (int, error) {
	total := 0
	for len(b) > 0 {
		piece, pause := f.registry.next(f.sent, len(b))
		if piece == 0 {
			f.flush()
			panic(http.ErrAbortHandler)
		}
		n, err := f.ResponseWriter.Write(b[:piece])
		total, f.sent, b = total+n, f.sent+int64(n), b[n:]
		if err != nil {
			return total, err
		}
		if pause > 0 && !f.pause(pause) {
			return total, f.ctx.Err()
		}
	}
	return total, nil
}

// next returns how many of n bytes are sent now, and for how long nothing is sent
// then. No bytes: the connection breaks here.
func (r *Registry) next(sent int64, n int) (piece int, pause time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cuts > 0 {
		left := r.cutAfter - sent
		if left <= 0 {
			r.cuts--
			return 0, 0
		}
		n = int(min(int64(n), left))
	}
	if r.rate == 0 {
		return n, 0
	}
	return min(n, max(1, r.rate/20)), time.Second / 20
}

func (f *faulty) flush() {
	if flusher, ok := f.ResponseWriter.(http.Flusher); ok {
		flusher.Flush()
	}
}

func (f *faulty) pause(d time.Duration) bool {
	f.flush()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-f.ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
