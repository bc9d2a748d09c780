package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/client"
)

// What can be wrong. Every error of a Client that comes from an engine matches one
// of them, or none when the engine says nothing that is known.
var (
	// ErrAway: the engine does not answer. What was asked may have been done.
	ErrAway = errors.New("the container engine does not answer")
	// ErrHangs: it is there, and does not answer in time. It comes with ErrAway.
	ErrHangs = errors.New("the container engine hangs")
	// ErrUnsent: it was not even asked. It comes with ErrAway or ErrForbidden.
	ErrUnsent = errors.New("the container engine was not reached")
	// ErrForbidden: its socket is there, and may not be used.
	ErrForbidden = errors.New("the container engine may not be used")
	// ErrTooOld: it speaks no version of the API that has what is needed.
	ErrTooOld = errors.New("the container engine is too old")
	// ErrInvalid: what was asked cannot be, whoever asks.
	ErrInvalid = errors.New("the container engine refuses the request")

	ErrNoContainer = errors.New("no such container")
	ErrNameTaken   = errors.New("the name is taken by another container")
	ErrNotRunning  = errors.New("the container does not run")
	ErrConflict    = errors.New("the container is in the way of that")
	ErrNoNetwork   = errors.New("no such network")
	ErrPortTaken   = errors.New("the port is taken")
	ErrDiskFull    = errors.New("the disk of the container engine is full")

	ErrNoImage      = errors.New("no such image")
	ErrUnauthorised = errors.New("the registry wants other credentials")
	ErrRegistryAway = errors.New("the registry cannot be reached")

	// ErrNoGPUs: the engine does not know how to show GPUs to a container.
	ErrNoGPUs = errors.New("the container engine has no way to give GPUs")
	// ErrGPU: it knows, and it did not succeed with the ones that were asked for.
	ErrGPU = errors.New("the GPUs could not be put into the container")

	// ErrNoProgram and ErrNotExecutable: the container is there, and its program
	// is not, or cannot be run (exit codes 127 and 126).
	ErrNoProgram     = errors.New("no such program in the image")
	ErrNotExecutable = errors.New("the program cannot be executed")
)

// failure is an error of an engine with the sentinel that it matches.
type failure struct {
	doing string
	what  string
	kind  error // nil = none is known
	err   error
}

// Error says what was tried, and what the engine answered.
func (f *failure) Error() string {
	doing := f.doing
	if f.what != "" {
		doing += " " + f.what
	}
	return doing + ": " + plain(f.err)
}

// Unwrap returns the sentinel and the cause.
func (f *failure) Unwrap() []error {
	if f.kind == nil {
		return []error{f.err}
	}
	return []error{f.kind, f.err}
}

// plain is the engine's own words, without those of the client before them.
func plain(err error) string {
	return strings.TrimPrefix(err.Error(), "Error response from daemon: ")
}

// Words returns what the engine itself said about an error, for people who will
// look it up.
func Words(err error) string {
	if f, ok := errors.AsType[*failure](err); ok {
		return plain(f.err)
	}
	return err.Error()
}

// fail makes the error of a call; err is not nil.
func (c *Client) fail(doing, what string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	f := &failure{doing: doing, what: what, err: err}
	f.kind = kindOf(doing, err)
	if errors.Is(f.kind, ErrAway) {
		f.err = fmt.Errorf("%s: %w", c.host, err)
		if errors.Is(err, context.DeadlineExceeded) {
			f.err = fmt.Errorf("%w: %w", ErrHangs, f.err)
		}
	}
	return f
}

// What was being done, where the meaning of a status depends on it.
const (
	doingCreate  = "create container"
	doingStart   = "start container"
	doingKill    = "signal container"
	doingPull    = "pull image"
	doingImage   = "look at image"
	doingUnimage = "remove image"
	doingJoin    = "connect to network"
	doingNetwork = "look at network"
)

// kindOf sorts an error by its type, and by its text where that says more.
func kindOf(doing string, err error) error {
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return ErrForbidden
	case client.IsErrConnectionFailed(err), isNet(err):
		return ErrAway
	}
	if k := kindByText(doing, err.Error()); k != nil {
		return k
	}
	switch {
	case errdefs.IsNotFound(err):
		return notFound(doing)
	case errdefs.IsConflict(err):
		return conflict(doing)
	case errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err):
		return ErrUnauthorised
	case errdefs.IsInvalidArgument(err):
		return ErrInvalid
	case errdefs.IsUnavailable(err) && doing != doingPull:
		return ErrAway
	case doing == doingPull:
		return ErrRegistryAway // whatever else is wrong there may pass
	}
	return nil
}

// isNet says that a connection broke, or came to nothing.
func isNet(err error) bool {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

func notFound(doing string) error {
	switch doing {
	case doingCreate, doingPull, doingImage, doingUnimage:
		return ErrNoImage
	case doingNetwork:
		return ErrNoNetwork
	default:
		return ErrNoContainer
	}
}

func conflict(doing string) error {
	switch doing {
	case doingCreate:
		return ErrNameTaken
	case doingKill:
		return ErrNotRunning
	default:
		return ErrConflict
	}
}
