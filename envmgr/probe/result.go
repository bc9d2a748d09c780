package probe

import (
	"errors"
	"fmt"
	"time"
)

// Result is what a probe has found out.
type Result struct {
	// Ready: the service does what it is there for.
	Ready bool
	// Alive: the service answered, in its own protocol. What is ready is alive; what is
	// alive and not ready is starting, overloaded, or not set up as the probe expects.
	Alive bool
	// Detail says it in words, for people.
	Detail string
	// Took is how long the probe took.
	Took time.Duration
	// Err is nil when the service is ready. Else it wraps one of the sentinels below, or
	// the cause of the context's end when the probe was given up: that, ErrNotAsked and
	// ErrSpec say nothing about the service.
	Err error
}

// Why a service is not ready.
var (
	ErrSpec        = errors.New("the probe is not well described")
	ErrNotAsked    = errors.New("the service could not be asked")
	ErrUnreachable = errors.New("there is no way to the service")
	ErrRefused     = errors.New("connection refused")
	ErrClosed      = errors.New("connection closed without an answer")
	ErrSilent      = errors.New("no answer in time")
	ErrForeign     = errors.New("something else answers")
	ErrNotReady    = errors.New("answers, but is not ready") // alive
	ErrFailed      = errors.New("its own check fails")       // exec and health
	ErrNoCheck     = errors.New("the container has no health check")
)

// failure is an error with a sentence for people, and the kinds that it is of.
type failure struct {
	text  string
	kinds []error
}

func (f *failure) Error() string   { return f.text }
func (f *failure) Unwrap() []error { return f.kinds }

// fail makes a failure of a kind. cause may be nil.
func fail(kind, cause error, format string, args ...any) error {
	f := &failure{text: fmt.Sprintf(format, args...), kinds: []error{kind}}
	if cause != nil {
		f.kinds = append(f.kinds, cause)
	}
	return f
}

// resultOf makes a result of what a probe returned: a sentence, or an error.
func resultOf(detail string, err error, took time.Duration) Result {
	if err != nil {
		return Result{Alive: errors.Is(err, ErrNotReady), Detail: err.Error(), Took: took, Err: err}
	}
	return Result{Ready: true, Alive: true, Detail: detail, Took: took}
}
