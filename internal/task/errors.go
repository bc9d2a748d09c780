package task

import (
	"errors"
	"fmt"
)

// ErrStale is returned by Apply for an event about an earlier attempt, or about
// something that has already happened. The task is unchanged and the caller
// has nothing to do.
var ErrStale = errors.New("the event is older than what is known")

// ErrIllegal is returned by Apply for an event that has no edge from the task's
// state. It is a mistake of the program, never of a user.
var ErrIllegal = errors.New("no such edge")

// ErrRemoved is what errors.Is finds for a task that has ended and was removed
// since.
var ErrRemoved = errors.New("the task ended and was removed by retention")

// ErrDamaged is what errors.Is finds when what is stored about a task cannot be
// read. It stays as it is, for a person to look at; nothing can be done with the
// task meanwhile.
var ErrDamaged = errors.New("what is stored about the task is damaged")

// Code sorts errors by what a caller can do about them. api maps codes to gRPC
// and HTTP codes in one table, the CLI to exit codes in another.
type Code uint8

// The codes.
const (
	CodeInternal    Code = iota // a fault of ours; the log has more
	CodeInvalid                 // the request can never be accepted as it is
	CodeNotFound                // what it names does not exist
	CodeConflict                // it contradicts what is stored: same id, other content; wrong state
	CodeExhausted               // a limit is reached: queue full, disk full
	CodeUnavailable             // it may work later, or elsewhere: not the owner, stopping
	CodeUnsupported             // the part that does this is not in this build or on this host
)

var codeNames = [...]string{"internal", "invalid", "not_found", "conflict", "exhausted", "unavailable", "unsupported"}

// String returns the lower-case name of the code.
func (c Code) String() string {
	if int(c) < len(codeNames) {
		return codeNames[c]
	}
	return fmt.Sprintf("code(%d)", uint8(c))
}

// Error is an error whose text is meant for the user: what happened, to what,
// and what to do next.
type Error struct {
	Code    Code
	Message string
	Err     error // the cause, for errors.Is and the log; may be nil
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error with the formatted text as its message; a %w in the
// format is its cause.
func Errorf(code Code, format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &Error{Code: code, Message: err.Error(), Err: errors.Unwrap(err)}
}

// CodeOf returns the code of the first Error in the chain, else CodeInternal.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return CodeInternal
}

// ErrOutcomeUnknown is what errors.Is finds in an error that leaves open whether what was
// asked for is stored. Any other error of a change says that it is not.
var ErrOutcomeUnknown = errors.New("it is not known whether it was stored")
