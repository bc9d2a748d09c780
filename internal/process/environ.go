package process

import (
	"errors"
	"os"
	"strconv"
	"sync"
	"time"
)

// To read the environment of a process the kernel may have to fetch a page of it,
// or to wait for a lock that the process holds while it does. Where that depends on
// a file server that does not answer, or on the program itself, whoever looks waits
// with it. So somebody else looks.

const (
	// environPatience is how long an environment may take. The kernel has it at once,
	// on a machine that is busy beyond measure a moment later.
	environPatience = 2 * time.Second
	// mostOpaque bounds the threads that wait.
	mostOpaque = 16
)

// errOpaque is returned for a process whose environment the kernel does not show.
var errOpaque = errors.New("the environment of the process cannot be read: it waits for something that does not come")

// environReader knows which environments are being waited for.
type environReader struct {
	patience time.Duration
	read     func(pid int) ([]byte, error)

	mu     sync.Mutex
	opaque map[int]struct{}
}

// environs is one for the whole process, since it is about those of the machine.
var environs = environReader{
	patience: environPatience,
	read:     func(pid int) ([]byte, error) { return os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ") },
	opaque:   map[int]struct{}{},
}

// environOf reads the environment that a process was started with.
func environOf(pid int) ([]byte, error) { return environs.of(pid) }

// of waits for a while. One that did not come then is asked for by nobody until
// it does: as a rule when its process ends.
func (r *environReader) of(pid int) ([]byte, error) {
	if !r.mayAsk(pid) {
		return nil, errOpaque
	}
	type answer struct {
		env []byte
		err error
	}
	got := make(chan answer, 1)
	go func() {
		env, err := r.read(pid)
		got <- answer{env, err}
		r.forget(pid)
	}()
	late := time.NewTimer(r.patience)
	defer late.Stop()
	select {
	case a := <-got:
		return a.env, a.err
	case <-late.C:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case a := <-got: // just now
		return a.env, a.err
	default:
		r.opaque[pid] = struct{}{} // forget waits for us
		return nil, errOpaque
	}
}

func (r *environReader) mayAsk(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, waits := r.opaque[pid]
	return !waits && len(r.opaque) < mostOpaque
}

func (r *environReader) forget(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.opaque, pid)
}
