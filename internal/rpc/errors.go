package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// codeTable is how task.Code and gRPC's codes correspond, both ways. Every
// task.Code has one line, and no gRPC code has two.
var codeTable = []struct {
	code task.Code
	grpc codes.Code
}{
	{task.CodeInternal, codes.Internal},
	{task.CodeInvalid, codes.InvalidArgument},
	{task.CodeNotFound, codes.NotFound},
	{task.CodeConflict, codes.FailedPrecondition},
	{task.CodeExhausted, codes.ResourceExhausted},
	{task.CodeUnavailable, codes.Unavailable},
	{task.CodeUnsupported, codes.Unimplemented},
}

// errorDomain marks the errors that this program made. gRPC makes some by itself
// with the same gRPC codes, such as UNAVAILABLE for a lost connection.
const errorDomain = "dspy-agent"

// outcomeKey is the name, in what travels with an error, of what became of the call where
// that is not known; outcomeUnknown is its value.
const outcomeKey, outcomeUnknown = "outcome", "unknown"

// removedKey is the name, in what travels with an error, of that the task which was asked
// for has ended and was removed; its value says nothing more.
const removedKey = "removed"

// ErrNothingDone is what errors.Is finds in an error of CodeUnavailable with which the server
// itself answered: what was submitted is not stored. Without it the answer was lost, and
// nobody here knows.
var ErrNothingDone = errors.New("the server has done nothing")

// ToStatus turns an error of a handler into what travels. The message of an
// internal error travels as well: whoever may connect owns the daemon and its log.
func ToStatus(err error) error {
	var coded *task.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &coded):
		return codedStatus(coded.Code, err)
	case isStatus(err):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	default:
		return codedStatus(task.CodeInternal, err)
	}
}

func isStatus(err error) bool {
	var s interface{ GRPCStatus() *status.Status }
	return errors.As(err, &s)
}

func codedStatus(code task.Code, cause error) error {
	st := status.New(grpcCode(code), Text(cause.Error()))
	info := &errdetails.ErrorInfo{Reason: strings.ToUpper(code.String()), Domain: errorDomain}
	switch {
	case errors.Is(cause, task.ErrOutcomeUnknown):
		info.Metadata = map[string]string{outcomeKey: outcomeUnknown}
	case errors.Is(cause, task.ErrRemoved):
		info.Metadata = map[string]string{removedKey: "true"}
	}
	if detailed, err := st.WithDetails(info); err == nil {
		st = detailed
	}
	return st.Err()
}

func grpcCode(code task.Code) codes.Code {
	for _, line := range codeTable {
		if line.code == code {
			return line.grpc
		}
	}
	return codes.Internal
}

// FromStatus turns what came over the wire back into an error of the domain: a
// *task.Error with the code that the server gave, or, when the caller's own
// context ended the call, an error that is context.Canceled or
// context.DeadlineExceeded.
func FromStatus(err error) error {
	if err == nil || !isStatus(err) {
		return err
	}
	st := status.Convert(err)
	switch st.Code() {
	case codes.Canceled:
		return fmt.Errorf("%s: %w", st.Message(), context.Canceled)
	case codes.DeadlineExceeded:
		return fmt.Errorf("%s: %w", st.Message(), context.DeadlineExceeded)
	}
	code, ours := codeOf(st)
	switch {
	case noted(st, outcomeKey) == outcomeUnknown:
		err = errors.Join(task.ErrOutcomeUnknown, err)
	case noted(st, removedKey) != "":
		err = errors.Join(task.ErrRemoved, err)
	case ours && code == task.CodeUnavailable:
		err = errors.Join(ErrNothingDone, err)
	}
	return &task.Error{Code: code, Message: st.Message(), Err: err}
}

// noted returns what the server has added to an error under that name; "" = nothing.
func noted(st *status.Status, key string) string {
	for _, detail := range st.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info.GetMetadata()[key]
		}
	}
	return ""
}

// codeOf returns the code of a status, and whether it was our server that gave it.
func codeOf(st *status.Status) (code task.Code, ours bool) {
	for _, detail := range st.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if !ok || info.GetDomain() != errorDomain {
			continue
		}
		for _, line := range codeTable {
			if strings.EqualFold(line.code.String(), info.GetReason()) {
				return line.code, true
			}
		}
	}
	for _, line := range codeTable {
		if line.grpc == st.Code() {
			return line.code, false
		}
	}
	if st.Code() == codes.Unauthenticated {
		return task.CodeConflict, false // the token is refused before a call is one of ours
	}
	return task.CodeInternal, false
}

// CodeNamed returns the code with that name.
func CodeNamed(name string) task.Code {
	for _, line := range codeTable {
		if strings.EqualFold(line.code.String(), name) {
			return line.code
		}
	}
	return task.CodeInternal
}
