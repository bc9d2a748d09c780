package cli

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/urfave/cli/v2"

	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

func (s *session) servicesLogs(c *cli.Context, names []string) error {
	if c.Int("tail") < 0 {
		return usagef("--tail is a number from 0 up")
	}
	names = uniqueNames(names)
	// Raw: what a program has printed is printed as it was.
	return s.withEnvManager(c, true, func(ctx context.Context, em *envManager) error {
		var reader sync.WaitGroup
		defer reader.Wait()
		streams, stop := context.WithCancel(ctx)
		defer stop()
		logs := serviceLogs{out: s.out, width: widest(names), names: names}
		for _, name := range names {
			stream, err := em.StreamLogs(streams, &pb.StreamLogsRequest{
				ServiceName: name, Follow: c.Bool("follow"), Tail: int32(min(c.Int("tail"), 1<<30)),
			})
			if err != nil {
				return err
			}
			logs.streams = append(logs.streams, stream)
		}
		if !c.Bool("follow") {
			return logs.merge()
		}
		err := logs.follow(streams, &reader)
		if interrupted(ctx) {
			return nil // this is how following ends
		}
		return err
	})
}

func uniqueNames(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func widest(names []string) int {
	wide := 0
	for _, name := range names {
		wide = max(wide, len(name))
	}
	return wide
}

// serviceLogs prints what services write; of several with the names in front.
type serviceLogs struct {
	out     *screen
	names   []string
	streams []logStream // one each
	width   int         // of the longest name
}

type logStream interface{ Recv() (*pb.LogEntry, error) }

// logColours are those of names, one after the other.
var logColours = []string{cyan, yellow, green, blue, "35", "36;1", "33;1", "32;1"}

func (l *serviceLogs) print(i int, e *pb.LogEntry) error {
	if len(l.names) == 1 {
		l.out.printf("%s\n", e.GetMessage())
		return l.out.err
	}
	head := l.names[i] + strings.Repeat(" ", l.width-len(l.names[i])) + " |"
	l.out.printf("%s %s\n", l.out.paint(logColours[i%len(logColours)], head), e.GetMessage())
	return l.out.err
}

// merge prints all there is, in the order of time.
func (l *serviceLogs) merge() error {
	heads := make([]*pb.LogEntry, len(l.streams)) // nil: it has ended
	next := func(i int) (err error) {
		if heads[i], err = l.streams[i].Recv(); errors.Is(err, io.EOF) {
			heads[i], err = nil, nil
		}
		return err
	}
	for i := range l.streams {
		if err := next(i); err != nil {
			return err
		}
	}
	for {
		first := -1
		for i, e := range heads {
			if e != nil && (first < 0 || e.GetTimestamp() < heads[first].GetTimestamp()) {
				first = i
			}
		}
		if first < 0 {
			return nil
		}
		if err := l.print(first, heads[first]); err != nil {
			return err
		}
		if err := next(first); err != nil {
			return err
		}
	}
}

// logLine is a line of one of the streams, or how that has ended.
type logLine struct {
	from int
	it   *pb.LogEntry
	err  error
}

// follow prints what comes, as it comes, until all have ended or one fails. The readers
// end with ctx.
func (l *serviceLogs) follow(ctx context.Context, readers *sync.WaitGroup) error {
	lines := make(chan logLine)
	for i, stream := range l.streams {
		readers.Go(func() {
			for {
				e, err := stream.Recv()
				select {
				case lines <- logLine{i, e, err}:
				case <-ctx.Done():
					return
				}
				if err != nil {
					return
				}
			}
		})
	}
	for left := len(l.streams); left > 0; {
		select {
		case line := <-lines:
			switch {
			case errors.Is(line.err, io.EOF):
				left--
				continue
			case line.err != nil:
				return line.err
			}
			if err := l.print(line.from, line.it); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
