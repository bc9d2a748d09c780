package app

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"testing"
)

// daemon runs a daemon with these options until the test ends.
func daemon(t *testing.T, o Options) *App {
	t.Helper()
	if err := os.MkdirAll(o.Config.LogDir, 0o700); err != nil {
		t.Fatal(err)
	}
	log, closeLog := newLogger(logFile(o.Config), nil, nil)
	a := &App{conf: o.Config, capacity: capacityOf(o.Config), log: log, down: teardown{log: log}}
	a.down.push("log", func(context.Context) error { return closeLog() })
	if err := a.build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- a.serve(ctx, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := a.down.run(); err != nil {
			t.Error(err)
		}
	})
	return a
}

// TestHTTPAtAnotherLoopbackAddress: who calls a daemon by the address that it was
// told to listen at is answered.
func TestHTTPAtAnotherLoopbackAddress(t *testing.T) {
	o := testOptions(t)
	o.Config.GRPCListen, o.Config.HTTPListen = "", "127.0.0.2:0"
	a := daemon(t, o)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+a.doors.HTTP.Addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("got %s from %s", resp.Status, a.doors.HTTP.Addr)
	}
}

// TestConnectionsAreLimited: as many come in as the configuration says.
func TestConnectionsAreLimited(t *testing.T) {
	o := testOptions(t)
	o.Config.GRPCListen, o.Config.HTTPListen = "", "127.0.0.1:0"
	o.Config.Limits.MaxConnections = 2
	a := daemon(t, o)
	// answered keeps the connection, on which nothing but a header was sent.
	answered := func() error {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", a.doors.HTTP.Addr)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := fmt.Fprintf(c, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		return err
	}
	for n := 1; n <= 3; n++ {
		if err := answered(); (err == nil) != (n <= 2) {
			t.Errorf("connection %d: %v", n, err)
		}
	}
}
