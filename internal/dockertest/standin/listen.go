package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
)

// switches are what an HTTP server of ours can be told while it runs.
type switches struct {
	health atomic.Int64 // the status it answers with
	silent atomic.Bool  // it takes requests and does not answer
}

// listen starts an HTTP server. It answers every path alike, but /api/tags as
// Ollama with no models does, and POST /standin, which is told by its query what
// is to happen from now on:
//
//	health=503    every answer has that status
//	silent=true   no request is answered any more, but these
//	say=TEXT      a line on standard output
//	exit=N        the end
func (s *standin) listen(addr string) error {
	l, err := net.Listen("tcp", addr) //nolint:noctx // it lives as long as the program
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /standin", s.told)
	mux.HandleFunc("/api/tags", s.answer(`{"models":[]}`))
	mux.HandleFunc("/", s.answer(`{"status":"ok"}`))
	go func() {
		err := http.Serve(l, mux) //nolint:gosec // tests ask
		fail(err.Error())
	}()
	return nil
}

func (s *standin) answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if s.silent.Load() {
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		status := int(s.health.Load())
		w.WriteHeader(status)
		if status != http.StatusOK {
			body := fmt.Sprintf(`{"status":%q}`, http.StatusText(status))
			fmt.Fprintln(w, body)
			return
		}
		fmt.Fprintln(w, body)
	}
}

// told does what a test says. The answer is on its way before an end.
func (s *standin) told(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var failed error
	end := func() {}
	for name, values := range query {
		value := values[0]
		switch name {
		case "health":
			failed = number(value, s.health.Store)
		case "silent":
			var silent bool
			silent, failed = strconv.ParseBool(value)
			s.silent.Store(silent)
		case "say":
			_, failed = fmt.Println(value)
		case "exit":
			failed = number(value, func(code int64) { end = func() { leave(int(code)) } })
		default:
			failed = fmt.Errorf("health, silent, say or exit, not %s", name)
		}
		if failed != nil {
			http.Error(w, failed.Error(), http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush() // who asked may have gone
	end()
}

// accept starts a server that takes connections, and what comes, and says nothing.
func accept(addr string) error {
	l, err := net.Listen("tcp", addr) //nolint:noctx // it lives as long as the program
	if err != nil {
		return err
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				fail(err.Error())
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(io.Discard, conn) // until the other side has enough of it
			}()
		}
	}()
	return nil
}
