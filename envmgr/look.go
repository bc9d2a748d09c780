package envmgr

import (
	"context"
	"errors"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/docker"
)

// sighting is what was seen of one service.
type sighting struct {
	box     *Box
	service docker.Service // of box
	missing bool           // its image is
	rival   string
	// err is why it could not be looked at, though the engine answers.
	err error
}

// look looks at all services. The error is for all of them.
func (s *Supervisor) look(ctx context.Context) (map[string]sighting, error) {
	all, err := s.list(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	out := map[string]sighting{}
	for _, name := range s.opts.Set.Names() {
		wg.Go(func() {
			d, _ := s.opts.Set.Get(name)
			one := s.lookAt(ctx, d, all)
			mu.Lock()
			out[name] = one
			mu.Unlock()
		})
	}
	wg.Wait()
	for _, one := range out {
		if errors.Is(one.err, docker.ErrAway) {
			return nil, one.err
		}
	}
	return out, ctx.Err()
}

// lookOnce looks at one.
func (s *Supervisor) lookOnce(ctx context.Context, d Definition) sighting {
	all, err := s.list(ctx)
	if err != nil {
		return sighting{err: err}
	}
	return s.lookAt(ctx, d, all)
}

func (s *Supervisor) lookAt(ctx context.Context, d Definition, all []docker.Listed) (out sighting) {
	f := recognise(d, s.opts.Site, s.opts.Project, all)
	out.rival = f.rival
	if f.id != "" {
		c, err := s.opts.Engine.InspectService(ctx, f.id)
		switch {
		case errors.Is(err, docker.ErrNoContainer): // it went just now
		case err != nil:
			return sighting{err: err}
		default:
			out.box, out.service = boxOf(d.hash(s.opts.Network), c, f.adopted), c
		}
	}
	if out.box == nil || !out.box.Current {
		_, err := s.opts.Engine.Image(ctx, d.Image)
		switch {
		case errors.Is(err, docker.ErrNoImage):
			out.missing = true
		case err != nil:
			return sighting{err: err}
		}
	}
	return out
}
