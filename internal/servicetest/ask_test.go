package servicetest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
	"github.com/dspy-agent/dspy-agent/internal/servicetest"
)

// patience is what a service gets on a machine that is busy.
const patience = time.Minute

// eventually polls until a service is as it should be. What it writes is told if it
// never is.
func eventually(t *testing.T, c *dockertest.Container, ask func() error) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.Now().Add(patience)
	for {
		err := ask()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%v; it has written:\n%s", err, c.Output(t))
		}
		<-tick.C // polls a service in a container
	}
}

// exchange sends a text to an address in an engine's network, and returns the first
// so many lines of the answer, or all of it if there are less.
func exchange(t *testing.T, e *dockertest.Engine, address, text string, lines int) (string, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
	defer stop()
	conn, err := e.Dial(ctx, "tcp", address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, text); err != nil {
		return "", err
	}
	var answer strings.Builder
	for r := bufio.NewReader(conn); lines > 0; lines-- {
		line, err := r.ReadString('\n')
		answer.WriteString(line)
		switch {
		case errors.Is(err, io.EOF): // some answers are less than a line
			return answer.String(), nil
		case err != nil:
			return answer.String(), err
		}
	}
	return answer.String(), nil
}

// says is whether a service answers a text with one that contains another, within
// so many lines.
func says(t *testing.T, e *dockertest.Engine, address, text, want string, lines int) error {
	t.Helper()
	got, err := exchange(t, e, address, text, lines)
	if err == nil && !strings.Contains(got, want) {
		err = fmt.Errorf("%s answers %q with %q", address, text, got)
	}
	return err
}

// get asks a web server, and returns its status; 0 if there is no answer in d.
func get(t *testing.T, e *dockertest.Engine, url string, d time.Duration) (status int, body string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), d)
	defer stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := servicetest.Web(e).Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(text)
}

// well is whether a web server answers 200.
func well(t *testing.T, e *dockertest.Engine, url string) error {
	t.Helper()
	if status, body := get(t, e, url, patience); status != http.StatusOK {
		return fmt.Errorf("%s answers %d, %s", url, status, body)
	}
	return nil
}
