package gpuprobe

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// session is one life of gpu-probe.
type session struct {
	w     *Watcher
	child *child
	lines chan gpu.Report
	stop  chan struct{}
	wg    sync.WaitGroup

	heard time.Time // when it last said anything
	busy  *gpu.Busy // the call that does not come back
	good  bool      // it has shown GPUs
}

// errDriver ends a session that has shown that there is no driver to ask: only
// another process can find one.
var errDriver = errors.New("no driver")

// run starts a probe and follows it until it fails or ctx ends (nil).
func (w *Watcher) run(ctx context.Context) (good bool, err error) {
	c, err := launch(w.o.Probe, w.o.Env)
	if err != nil {
		return false, err
	}
	s := &session{w: w, child: c, lines: make(chan gpu.Report), stop: make(chan struct{}), heard: time.Now()}
	s.wg.Go(s.read)
	err = s.follow(ctx)
	close(s.stop)
	well := err == nil || errors.Is(err, errDriver)
	if !c.end(well) {
		w.undead = c
	}
	s.wg.Wait()
	if err != nil && !well {
		err = fmt.Errorf("%w; it %s", err, c.verdict())
	}
	return s.good, err
}

// read passes on what the probe says, until its output or the session ends.
func (s *session) read() {
	defer close(s.lines)
	in := bufio.NewReaderSize(s.child.stdout, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var r gpu.Report
		if json.Unmarshal(line, &r) != nil {
			return // no probe of ours: silence is noticed
		}
		select {
		case s.lines <- r:
		case <-s.stop:
			return
		}
	}
}

var errSilent = errors.New("gpu-probe says nothing")

// follow tells the probe what to do, and judges what it says and what it does
// not.
func (s *session) follow(ctx context.Context) error {
	if err := s.say("period " + s.w.o.Period.String() + "\nonce\n"); err != nil {
		return err
	}
	watch := time.NewTicker(min(time.Second, s.w.o.CallLimit/4))
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.w.ask:
			if err := s.say("once\n"); err != nil {
				return err
			}
		case r, open := <-s.lines:
			if !open {
				return errors.New("gpu-probe stopped talking")
			}
			if err := s.take(r); err != nil {
				return err
			}
		case now := <-watch.C:
			if err := s.judge(now); err != nil {
				return err
			}
		}
	}
}

// say writes commands. A probe that stands still does not read, and the pipe is
// not to hold us.
func (s *session) say(commands string) error {
	err := s.child.stdin.SetWriteDeadline(time.Now().Add(time.Second))
	if err == nil {
		_, err = io.WriteString(s.child.stdin, commands)
	}
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) { // else judge decides
		return fmt.Errorf("command gpu-probe: %w", err)
	}
	return nil
}

// take keeps what was said.
func (s *session) take(r gpu.Report) error {
	s.heard = time.Now()
	switch {
	case r.Hello != nil && r.Hello.Format != gpu.FormatVersion:
		return fmt.Errorf("gpu-probe %s speaks format %d, and this is format %d: install both of one version", r.Hello.Version, r.Hello.Format, gpu.FormatVersion)
	case r.Busy != nil:
		s.busy = r.Busy
		s.w.hangs(r.Busy)
		return s.judge(s.heard)
	case r.Event != nil:
		s.w.tell(*r.Event)
	case r.Snapshot != nil:
		s.busy = nil
		if r.Snapshot.Driver.Code != gpu.Success {
			s.w.publishUnlessKnown(r.Snapshot)
			return errDriver
		}
		s.w.publish(r.Snapshot)
		s.good = true
	}
	return nil
}

// judge says whether the probe has had long enough.
func (s *session) judge(now time.Time) error {
	if b := s.busy; b != nil && b.ForMillis >= s.w.o.CallLimit.Milliseconds() {
		return fmt.Errorf("%s did not come back from the driver for %s", call(b), time.Duration(b.ForMillis)*time.Millisecond)
	}
	if now.Sub(s.heard) > s.w.o.Period+s.w.o.CallLimit {
		return fmt.Errorf("%w for %s", errSilent, now.Sub(s.heard).Round(time.Second/10))
	}
	return nil
}

func call(b *gpu.Busy) string {
	if b.Device == "" {
		return b.Call
	}
	return b.Call + " on " + string(b.Device)
}
