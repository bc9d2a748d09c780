// Command standin is what runs in containers of tests: it takes its arguments as
// steps, one after the other, and ends with 0 if none says otherwise.
//
//	out=N           N lines on standard output, numbered from 1
//	err=N           N lines on standard error
//	say=TEXT        TEXT, and a line's end
//	sleep=1s        a pause
//	hang            for ever
//	deaf            SIGTERM does nothing from now on; before, it ends the program with 143
//	term=N          SIGTERM ends the program with N from now on
//	exit=N          the end
//	memory=64m      so much memory is taken and touched
//	children=N      N processes that sleep
//	write=PATH:TEXT a file
//	read=PATH       what is in a file
//	fill=PATH:64m   a file of so many bytes, synced
//	env=NAME        a variable
//	where           user, group, working directory, name of the host
//	connect=ADDR    a TCP connection, opened and closed
//	listen=ADDR     an HTTP server, from now on and beside the steps that follow; see listen.go
//	accept=ADDR     a server that takes connections and says nothing, likewise
//	health=N        what the HTTP server answers, from now on; 200 at first
//	crash=1s:N      the end with N after so long, beside the steps that follow
//	when=NAME=VALUE:STEP   a step, if a variable is that
//	unless=NAME=VALUE:STEP a step, if it is not
//	starts=N:STEP   a step, in the first N starts of the container
//	steps=NAME      the steps that are in a variable, with spaces between them
//
// What cannot be done is said on standard error, and ends it with 99. It keeps
// nothing.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	var stand standin
	stand.onTerm.Store(143)
	stand.heed()
	stand.health.Store(http.StatusOK)
	for _, arg := range os.Args[1:] {
		stand.do(arg)
	}
}

// do takes a step.
func (s *standin) do(arg string) {
	verb, rest, _ := strings.Cut(arg, "=")
	step := stepOf(verb)
	if step == nil {
		fail("no such step: " + verb)
	}
	if err := step(s, rest); err != nil {
		fail(arg + ": " + err.Error())
	}
}

func fail(text string) {
	fmt.Fprintln(os.Stderr, "standin:", text)
	leave(99)
}

// leave ends the program: a step does so, not only main.
func leave(code int) {
	os.Exit(code) //nolint:forbidigo // whoever is told to end has nothing to tidy up
}

// deaf is the exit code of a program that SIGTERM does not end.
const deaf = -1

// standin is what steps leave behind.
type standin struct {
	onTerm atomic.Int64
	memory [][]byte
	starts int // of this container, this one included; 0 = nobody asked yet
	switches
}

// heed listens to SIGTERM: to the first process of a container nothing happens by
// itself. SIGUSR1 makes the HTTP server say that it is not well, SIGUSR2 that it is.
func (s *standin) heed() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGUSR1, syscall.SIGUSR2) //nolint:forbidigo // this is a program of its own
	go func() {
		for sig := range signals {
			switch code := s.onTerm.Load(); {
			case sig == syscall.SIGUSR1:
				s.health.Store(http.StatusServiceUnavailable)
			case sig == syscall.SIGUSR2:
				s.health.Store(http.StatusOK)
			case code != deaf:
				leave(int(code))
			}
		}
	}()
}

var steps = map[string]func(*standin, string) error{
	"out":      func(_ *standin, n string) error { return lines(os.Stdout, "out", n) },
	"err":      func(_ *standin, n string) error { return lines(os.Stderr, "err", n) },
	"say":      func(_ *standin, text string) error { _, err := fmt.Println(text); return err },
	"sleep":    func(_ *standin, d string) error { return sleep(d) },
	"hang":     func(*standin, string) error { select {} },
	"deaf":     func(s *standin, _ string) error { s.onTerm.Store(deaf); return nil },
	"term":     func(s *standin, n string) error { return number(n, s.onTerm.Store) },
	"exit":     func(_ *standin, n string) error { return number(n, func(code int64) { leave(int(code)) }) },
	"memory":   (*standin).take,
	"children": func(_ *standin, n string) error { return children(n) },
	"write":    func(_ *standin, what string) error { return write(what) },
	"read":     func(_ *standin, path string) error { return read(path) },
	"fill":     func(_ *standin, what string) error { return fill(what) },
	"env":      func(_ *standin, name string) error { return env(name) },
	"where":    func(*standin, string) error { return where() },
	"connect":  func(_ *standin, addr string) error { return connect(addr) },
	"listen":   (*standin).listen,
	"accept":   func(_ *standin, addr string) error { return accept(addr) },
	"health":   func(s *standin, n string) error { return number(n, s.health.Store) },
	"crash":    func(_ *standin, what string) error { return crash(what) },
}

// stepOf returns what a verb does; the steps with steps in them are not in the
// table, which they read.
func stepOf(verb string) func(*standin, string) error {
	switch verb {
	case "when":
		return func(s *standin, what string) error { return s.when(what, true) }
	case "unless":
		return func(s *standin, what string) error { return s.when(what, false) }
	case "starts":
		return (*standin).firstStarts
	case "steps":
		return (*standin).stepsOf
	default:
		return steps[verb]
	}
}

func env(name string) error {
	_, err := fmt.Println(os.Getenv(name)) //nolint:forbidigo // what the container was given is the question
	return err
}

func number(text string, use func(int64)) error {
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil {
		use(n)
	}
	return err
}

// size reads a number of bytes, with k, m or g.
func size(text string) (int64, error) {
	shift := map[string]int{"k": 10, "m": 20, "g": 30}
	unit := text[max(0, len(text)-1):]
	n, err := strconv.ParseInt(strings.TrimRight(text, "kmg"), 10, 64)
	return n << shift[unit], err
}

func lines(to *os.File, what, n string) error {
	w := bufio.NewWriter(to)
	err := number(n, func(n int64) {
		for i := range n {
			fmt.Fprintf(w, "%s %d\n", what, i+1)
		}
	})
	if err != nil {
		return err
	}
	return w.Flush()
}

func sleep(text string) error {
	d, err := time.ParseDuration(text)
	time.Sleep(d)
	return err
}

func (s *standin) take(text string) error {
	n, err := size(text)
	const piece = 1 << 20
	for ; n > 0; n -= piece {
		b := make([]byte, piece)
		for i := 0; i < piece; i += 4096 {
			b[i] = 1
		}
		s.memory = append(s.memory, b)
	}
	return err
}

func children(text string) error {
	var failed error
	err := number(text, func(n int64) {
		for range n {
			cmd := exec.Command("/proc/self/exe", "hang")
			if failed = cmd.Start(); failed != nil {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	return failed
}

func write(what string) error {
	path, text, _ := strings.Cut(what, ":")
	return os.WriteFile(path, []byte(text), 0o644)
}

func read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

func fill(what string) error {
	path, text, _ := strings.Cut(what, ":")
	n, err := size(text)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	piece := make([]byte, 64<<10)
	for ; n > 0; n -= int64(len(piece)) {
		if _, err := f.Write(piece[:min(n, int64(len(piece)))]); err != nil {
			return err
		}
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

func where() error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	_, err = fmt.Printf("uid=%d gid=%d dir=%s host=%s\n", os.Getuid(), os.Getgid(), dir, host)
	return err
}

func connect(addr string) error {
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second) //nolint:noctx // it ends by itself
	if err != nil {
		return err
	}
	return conn.Close()
}
