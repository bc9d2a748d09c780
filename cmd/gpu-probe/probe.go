package main

import (
	"bufio"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/gpu/nvml"
	"github.com/dspy-agent/dspy-agent/internal/version"
)

const (
	// overdue is after how long a call is worth a word, and how often.
	overdue = time.Second
	// patience is how long one wait for events takes.
	patience = time.Second
)

// probe serves one parent. Beside serve, which obeys, runs ask, which alone calls
// the driver, and listen, which waits for its events. Nobody waits for these two:
// either may be in a call that never ends, and they end with the process.
type probe struct {
	reader *nvml.Reader
	out    *lines
	due    chan struct{} // one place: a snapshot that is due twice is taken once
	deaf   chan struct{} // holds a token while nobody listens
}

func newProbe(o nvml.Options, out io.Writer) *probe {
	p := &probe{reader: nvml.New(o), out: newLines(out), due: make(chan struct{}, 1), deaf: make(chan struct{}, 1)}
	p.deaf <- struct{}{}
	return p
}

// serve obeys until it is told to quit, or standard input ends.
func (p *probe) serve(stdin io.Reader) {
	p.out.write(gpu.Report{Hello: &gpu.Hello{Format: gpu.FormatVersion, PID: os.Getpid(), Version: version.String()}})
	commands := make(chan string)
	go read(stdin, commands)
	go p.ask()
	period, watch := time.NewTicker(time.Hour), time.NewTicker(overdue)
	defer period.Stop()
	defer watch.Stop()
	period.Stop()
	for {
		select {
		case line, open := <-commands:
			if !open || !p.obey(line, period) {
				return
			}
		case <-period.C:
			p.request()
		case now := <-watch.C:
			p.complain(now)
		}
	}
}

// read passes on the lines of standard input. Its end is the channel's.
func read(stdin io.Reader, commands chan<- string) {
	in := bufio.NewScanner(stdin)
	for in.Scan() {
		commands <- in.Text()
	}
	close(commands)
}

// obey does what a line says. What it does not know it leaves: a newer parent may
// say more.
func (p *probe) obey(line string, period *time.Ticker) (stay bool) {
	words := strings.Fields(line)
	switch {
	case len(words) == 1 && words[0] == "quit":
		return false
	case len(words) == 1 && words[0] == "once":
		p.request()
	case len(words) == 2 && words[0] == "period":
		switch every, err := time.ParseDuration(words[1]); {
		case err != nil: // as above
		case every <= 0:
			period.Stop()
		default:
			period.Reset(every)
		}
	}
	return true
}

func (p *probe) request() {
	select {
	case p.due <- struct{}{}:
	default:
	}
}

// complain says which call has not come back.
func (p *probe) complain(now time.Time) {
	call := p.reader.Pending()
	if call == nil {
		return
	}
	if took := now.Sub(call.Since); took >= overdue {
		p.out.write(gpu.Report{Busy: &gpu.Busy{At: now.UTC(), Call: call.Name, Device: call.Device, ForMillis: took.Milliseconds()}})
	}
}

// ask takes a snapshot whenever one is due, and sees that somebody listens.
func (p *probe) ask() {
	var events *nvml.Events
	for range p.due {
		s := p.reader.Snapshot()
		// Before the snapshot is told: what happens after it is heard.
		select {
		case <-p.deaf:
			if events = p.reader.Listen(); events != nil {
				go p.listen(events)
			} else {
				p.deaf <- struct{}{} // there may be GPUs to hear later
			}
		default:
			events.Join()
		}
		p.out.write(gpu.Report{Snapshot: s})
	}
}

// listen passes on events until waiting for them fails; the next snapshot then
// looks at every device, and another takes over.
func (p *probe) listen(events *nvml.Events) {
	for {
		e := events.Wait(patience)
		if e == nil {
			continue
		}
		p.out.write(gpu.Report{Event: e})
		if e.Kind == gpu.EventLost {
			events.Close()
			p.deaf <- struct{}{}
			return
		}
	}
}
