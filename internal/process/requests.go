package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
	"github.com/dspy-agent/dspy-agent/internal/task"
	"github.com/dspy-agent/dspy-agent/internal/taskfiles"
)

// An owner on another host asks a supervisor for something by an empty file in its
// spool. The name says all, so none is ever half-written, and to ask twice is to ask
// once. Its answer is what it writes into its journal.

// requestsDir is where in a spool the files are.
const requestsDir = "requests"

// What can be asked for.
const (
	// askStop is to end an attempt.
	askStop = "stop"
	// askRecall is to give back an attempt that has not begun: it is not begun here
	// then, unless by an owner that comes after the one that asks.
	askRecall = "recall"
	// askForget is to drop the end of an attempt, which is stored.
	askForget = "forget"
)

var requestName = regexp.MustCompile(`^(stop|recall|forget)-([0-9]{1,20})-([0-9]{1,9})(?:-([0-9]{1,20}))?$`)

// request is one of them.
type request struct {
	what  string
	ref   task.Ref
	fence uint64 // of who recalls
}

func (r request) name() string {
	name := fmt.Sprintf("%s-%d-%d", r.what, r.ref.Seq, r.ref.Attempt)
	if r.what == askRecall {
		name += "-" + strconv.FormatUint(r.fence, 10)
	}
	return name
}

// parseRequest reads the name of a file; false if it is no request.
func parseRequest(name string) (request, bool) {
	m := requestName.FindStringSubmatch(name)
	if m == nil {
		return request{}, false
	}
	seq, err := strconv.ParseUint(m[2], 10, 64)
	attempt, err2 := strconv.Atoi(m[3])
	r := request{what: m[1], ref: task.Ref{Seq: task.Seq(seq), Attempt: attempt}}
	if m[4] != "" {
		var err3 error
		r.fence, err3 = strconv.ParseUint(m[4], 10, 64)
		err = errors.Join(err, err3)
	}
	return r, err == nil && err2 == nil && r.name() == name
}

// put asks the supervisor of a spool. The spool has to be there.
func (r request) put(spool string) error {
	dir := filepath.Join(spool, requestsDir)
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("ask the supervisor of %s: %w", spool, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, r.name()), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("ask the supervisor of %s: %w", spool, err)
	}
	return f.Close()
}

// requestsIn returns what a supervisor is asked for. Only what belongs to its own user
// counts: the file server may see to the permissions of the spool, or not.
func requestsIn(spool string) []request {
	entries, err := os.ReadDir(filepath.Join(spool, requestsDir))
	if err != nil {
		return nil // nobody has asked for anything, or it is looked at again
	}
	var out []request
	for _, e := range entries {
		r, ok := parseRequest(e.Name())
		if !ok || !e.Type().IsRegular() {
			continue
		}
		if info, err := e.Info(); err == nil && taskfiles.OwnFile(info) {
			out = append(out, r)
		}
	}
	return out
}

// freshen sees to it that requests are seen that others have made on a file server.
func (q *queue) freshen() {
	if q.shared {
		lookAgain(q.journal.dir)
		lookAgain(filepath.Join(q.journal.dir, requestsDir))
	}
}

// heedRequests does what owners on other hosts ask for, and removes what is done with.
// An effect that is lost with us is asked for again.
func (s *supervisor) heedRequests(q *queue) {
	asked := requestsIn(q.journal.dir)
	if len(asked) == 0 || !q.journal.holdsLock() {
		return
	}
	s.mu.Lock()
	for _, r := range asked {
		s.request(q, r)
	}
	s.refill(nil)
	s.mu.Unlock()
	s.flush(q, false)
	for _, r := range s.done(q, asked) {
		// One that is gone was removed by somebody who did the same; another stays, and
		// does no harm.
		_ = os.Remove(filepath.Join(q.journal.dir, requestsDir, r.name()))
	}
	s.show(q, false)
	s.sendOn(q)
}

// request does one of them. The supervisor's mutex is held.
func (s *supervisor) request(q *queue, r request) {
	names := []*supervisorpb.Name{nameOf(r.ref)}
	switch r.what {
	case askStop:
		s.stop(q, &supervisorpb.StopBatch{Names: names})
	case askForget:
		s.forget(q, &supervisorpb.ForgetBatch{Names: names})
	case askRecall:
		s.recall(q, r.ref, r.fence)
	}
}

// done returns those that need not be done again.
func (s *supervisor) done(q *queue, asked []request) (out []request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.journal.pending() || q.trouble.err != nil {
		return nil
	}
	for _, r := range asked {
		if r.what != askForget || q.attempts[r.ref] == nil {
			out = append(out, r)
		}
	}
	return out
}

// recall gives back an attempt that has not begun, for the owner with that fence. One
// that was claimed is not: its records tell what becomes of it. The supervisor's mutex
// is held.
func (s *supervisor) recall(q *queue, ref task.Ref, fence uint64) {
	if fence < q.fence {
		return // the owner that asked has been followed by another one
	}
	q.fence = fence
	a := q.attempts[ref]
	switch {
	case a == nil && q.forgotten.has(ref):
		return // it has ended, and some owner has that on record
	case a == nil:
		a = newAttempt(q, nameOf(ref), &supervisorpb.Claim{})
		q.attempts[ref] = a
	case a.phase == queued:
		q.poolOf(a.claim.GetPool()).remove(a)
	case a.recalled() && a.end.GetRecalledBy() < fence:
		end := proto.CloneOf(a.end) // a report with the present one may be on its way
		end.RecalledBy = fence
		a.end = end
		q.record(a, end, sequel{})
		return
	default:
		return
	}
	end := notBegun()
	end.RecalledBy = max(fence, 1)
	s.finish(a, end)
}

// recalled says whether an owner on another host has it back.
func (a *attempt) recalled() bool { return a.end.GetRecalledBy() != 0 }

// returned says whether a recalled attempt comes back, from an owner after the one
// that recalled it. It is as if it had never been here then.
func (s *supervisor) returned(q *queue, a *attempt, fence uint64) bool {
	if !a.recalled() || fence <= a.end.GetRecalledBy() || !a.settled {
		return false
	}
	delete(q.attempts, a.ref)
	return true
}
