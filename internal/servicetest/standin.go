package servicetest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

// StandInOptions is what a stand-in does, whatever arguments its container has.
// The zero value listens on port 8080 at once, and is well.
type StandInOptions struct {
	Delay   time.Duration            // until it listens
	DelayIf map[string]time.Duration // NAME=VALUE in its environment -> a delay in the place of Delay
	HTTP    string                   // address: GET of /health, /api/tags and all else; "" = :8080, unless TCP is set
	TCP     string                   // address that takes connections and says nothing; "" = none

	Unhealthy bool // it answers 503 until told otherwise

	Lines int    // so many on standard output, and as many on standard error, before all else
	Say   string // one more on standard output

	Crash      bool          // it ends by itself ...
	CrashAfter time.Duration // ... so long after its start, be it listening or not ...
	ExitCode   int           // ... with this exit code ...
	Crashes    int           // ... in so many starts of a container; 0 = in all
}

// StandIn gives an engine a stand-in under a name, and returns that name. What a
// container has in its variable STANDIN, it does first: steps of
// internal/dockertest/standin, with spaces between them. STANDIN=sleep=1h does not
// listen, STANDIN=exit=3 ends.
func StandIn(t testing.TB, e *dockertest.Engine, name string, o StandInOptions) string {
	t.Helper()
	e.Load(t, name, StandInImage(t, o))
	return name
}

// StandInImage returns the image of a stand-in, for a registry.
func StandInImage(t testing.TB, o StandInOptions) v1.Image {
	t.Helper()
	// All in the entrypoint: a service's own arguments come after hang.
	return dockertest.ProgramImage(t, "internal/dockertest/standin", v1.Config{Entrypoint: append([]string{"/standin"}, o.steps()...)})
}

func (o StandInOptions) steps() []string {
	steps := []string{"steps=STANDIN"}
	add := func(format string, args ...any) { steps = append(steps, fmt.Sprintf(format, args...)) }
	if o.Lines > 0 {
		add("out=%d", o.Lines)
		add("err=%d", o.Lines)
	}
	if o.Say != "" {
		add("say=%s", o.Say)
	}
	if o.Unhealthy {
		add("health=%d", http.StatusServiceUnavailable)
	}
	if o.Crash {
		steps = append(steps, o.crash())
	}
	steps = append(steps, o.delays()...)
	if o.HTTP == "" && o.TCP == "" {
		o.HTTP = ":8080"
	}
	if o.HTTP != "" {
		add("listen=%s", o.HTTP)
	}
	if o.TCP != "" {
		add("accept=%s", o.TCP)
	}
	return append(steps, "hang")
}

func (o StandInOptions) crash() string {
	crash := fmt.Sprintf("crash=%v:%d", o.CrashAfter, o.ExitCode)
	if o.Crashes > 0 {
		return fmt.Sprintf("starts=%d:%s", o.Crashes, crash)
	}
	return crash
}

// delays waits for as long as the first condition says that holds, else for Delay.
func (o StandInOptions) delays() (steps []string) {
	otherwise := ""
	for _, condition := range slices.Sorted(maps.Keys(o.DelayIf)) {
		steps = append(steps, fmt.Sprintf("%swhen=%s:sleep=%v", otherwise, condition, o.DelayIf[condition]))
		otherwise += "unless=" + condition + ":"
	}
	return append(steps, fmt.Sprintf("%ssleep=%v", otherwise, o.Delay))
}

// Tell tells a stand-in that listens on an address of an engine's network what to
// do from now on: health=503, health=200, silent=true, say=TEXT, exit=N.
func Tell(t testing.TB, e *dockertest.Engine, address string, what ...string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/standin?"+strings.Join(what, "&"), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := Web(e).Do(req)
	if err != nil {
		t.Fatalf("tell the stand-in at %s %v: %v", address, what, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the stand-in at %s, told %v, answers %s", address, what, answer.Status)
	}
}

// Web returns a client that asks services in an engine's network, each time by a
// new connection.
func Web(e *dockertest.Engine) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return e.Dial(ctx, network, address)
		},
	}}
}
