package probe_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// speakers are the kinds that ask something, each with a good answer.
var speakers = map[probe.Kind][]string{
	probe.HTTP:      {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"},
	probe.Redis:     {"+PONG\r\n"},
	probe.ZooKeeper: {srvr},
	probe.Kafka: {
		"\x00\x00\x00\x10prob\x00\x00\x00\x00\x00\x01\x00\x03\x00\x01\x00\x08",
		"\x00\x00\x00\x0fprob\x00\x00\x00\x01\x00\x00\x00\x01\x00\x01h",
	},
}

// each runs a test for each of them.
func each(t *testing.T, test func(t *testing.T, kind probe.Kind, answers []string)) {
	t.Helper()
	for kind, answers := range speakers {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			test(t, kind, answers)
		})
	}
}

func TestOneByteAtATime(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind probe.Kind, answers []string) {
		expect(t, run(t, kind, serve(t, func(conn net.Conn) {
			for _, answer := range answers {
				hear(conn)
				for i := range len(answer) {
					if _, err := io.WriteString(conn, answer[i:i+1]); err != nil {
						return
					}
				}
			}
		})), nil, "")
	})
}

func TestSilence(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind probe.Kind, _ []string) {
		addr := serve(t, untilLeft)
		r := probe.Run(t.Context(), probe.Spec{Kind: kind, Timeout: probe.MinTimeout}, at(addr))
		expect(t, r, probe.ErrSilent, "within 200ms")
		if r.Took < probe.MinTimeout {
			t.Errorf("gave up after %v", r.Took)
		}
	})
}

// Drops that keep coming do not keep a probe beyond its timeout.
func TestSlowerThanTheTimeout(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind probe.Kind, answers []string) {
		addr := serve(t, func(conn net.Conn) {
			hear(conn)
			gone := make(chan struct{})
			go func() {
				defer close(gone)
				untilLeft(conn)
			}()
			for i := range 3 { // the beginning of an answer, and never its end
				_, _ = io.WriteString(conn, answers[0][i:i+1])
				select {
				case <-gone:
				case <-time.After(40 * time.Millisecond):
				}
			}
			<-gone
		})
		r := probe.Run(t.Context(), probe.Spec{Kind: kind, Timeout: probe.MinTimeout}, at(addr))
		expect(t, r, probe.ErrSilent, "within 200ms")
	})
}

func TestReset(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind probe.Kind, _ []string) {
		for _, answer := range []func(net.Conn){
			reset,
			func(net.Conn) {},
			func(conn net.Conn) { hear(conn); reset(conn) },
			func(conn net.Conn) { hear(conn) },
		} {
			expect(t, run(t, kind, serve(t, answer)), probe.ErrClosed, "")
		}
	})
}

func TestGarbage(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind probe.Kind, _ []string) {
		expect(t, run(t, kind, serve(t, saying("\x00\xff\x1b[2J\u202egarbage, and more of it\r\n"))), probe.ErrForeign, `says "\x00\xff\x1b[2J`)
	})
}

// What never ends is read up to a bound, and no further.
func TestAnswerWithoutEnd(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind probe.Kind, _ []string) {
		chunk := bytes.Repeat([]byte("x"), 64<<10)
		expect(t, run(t, kind, serve(t, func(conn net.Conn) {
			for {
				if _, err := conn.Write(chunk); err != nil {
					return
				}
			}
		})), probe.ErrForeign, `"xxxxx`)
	})
}

// A server with too many clients answers without being asked, and hangs up; the request
// may come too late for it.
func TestAnswerBeforeTheRequest(t *testing.T) {
	t.Parallel()
	for kind, answer := range map[probe.Kind]string{
		probe.Redis: "-ERR max number of clients reached\r\n",
		probe.HTTP:  "HTTP/1.1 503 Service Unavailable\r\n\r\n",
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			addr := serve(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, answer)
				if calls.Add(1)%2 == 0 {
					reset(conn)
				}
			})
			heard := 0
			for range 300 { // in which of them the request is late nobody knows
				r := run(t, kind, addr)
				if strings.Contains(r.Detail, "while it was made") { // so late that there is nothing to read from
					expect(t, r, probe.ErrClosed, "")
					continue
				}
				expect(t, r, probe.ErrNotReady, "")
				heard++
			}
			if heard == 0 {
				t.Error("no answer was heard at all")
			}
		})
	}
}

func TestGivenUp(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, kind probe.Kind, _ []string) {
		ctx, cancel := context.WithCancel(t.Context())
		addr := serve(t, func(conn net.Conn) {
			hear(conn)
			cancel()
			untilLeft(conn)
		})
		r := probe.Run(ctx, probe.Spec{Kind: kind, Timeout: time.Hour}, at(addr))
		expect(t, r, context.Canceled, "given up: context canceled")

		// And what is given up before it begins connects nowhere.
		r = probe.Run(ctx, probe.Spec{Kind: kind}, probe.Target{Addr: func(int) string {
			t.Error("the address was asked for")
			return addr
		}})
		expect(t, r, context.Canceled, "given up")
	})
}

func TestGivenUpWhileWatching(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	target := at(serve(t, func(conn net.Conn) {
		cancel()
		untilLeft(conn)
	}))
	target.Published = true
	for range 20 {
		r := probe.Run(ctx, probe.Spec{Kind: probe.TCP, Port: 1}, target)
		expect(t, r, context.Canceled, "given up")
	}
}

// When Run has returned, nothing of it is left, however it ended.
func TestNothingIsLeft(t *testing.T) {
	t.Run("the first connection of a process brings files that stay", func(t *testing.T) {
		run(t, probe.TCP, serve(t, untilLeft))
	})
	before := openFiles(t)
	for kind, answers := range speakers {
		for name, answer := range map[string]func(net.Conn){
			"good":    saying(answers[0]),
			"silent":  untilLeft,
			"reset":   reset,
			"foreign": saying("\x00garbage\r\n"),
		} {
			t.Run(string(kind)+" "+name, func(t *testing.T) {
				addr := serve(t, answer)
				probe.Run(t.Context(), probe.Spec{Kind: kind, Timeout: probe.MinTimeout}, at(addr))
				nothingRuns(t)
				for _, published := range []bool{true, false} {
					target := at(addr)
					target.Published = published
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
					probe.Run(ctx, probe.Spec{Kind: probe.TCP, Port: 1}, target)
					cancel()
					nothingRuns(t)
				}
			})
		}
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d files are open, were %d", after, before)
	}
}

// inPackage finds a goroutine in the package, other than tests that wait for their turn.
var inPackage = regexp.MustCompile(`/envmgr/probe\.[^TF]`)

// nothingRuns: no goroutine is in the package. One that has done its last may take a
// moment to be gone.
func nothingRuns(t *testing.T) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for began := time.Now(); ; {
		running := stacks[:runtime.Stack(stacks, true)]
		if !inPackage.Match(running) {
			return
		}
		if time.Since(began) > patience {
			t.Fatalf("still running: %s", running)
		}
	}
}

// openFiles counts the file descriptors of this process.
func openFiles(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("this system does not tell which files are open; run it on Linux")
	}
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}
