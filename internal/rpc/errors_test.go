package rpc

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

var allCodes = []task.Code{
	task.CodeInternal, task.CodeInvalid, task.CodeNotFound, task.CodeConflict,
	task.CodeExhausted, task.CodeUnavailable, task.CodeUnsupported,
}

func TestEveryCodeMakesTheRoundTrip(t *testing.T) {
	if len(codeTable) != len(allCodes) {
		t.Errorf("the table has %d lines for %d codes", len(codeTable), len(allCodes))
	}
	seen := map[codes.Code]bool{}
	for _, code := range allCodes {
		sent := ToStatus(task.Errorf(code, "the %s error", code))
		if got := status.Code(sent); seen[got] || got == codes.OK {
			t.Errorf("%s travels as %s, which is taken", code, got)
		} else {
			seen[got] = true
		}
		// The code must survive without our detail too: other clients see only this.
		plain := status.Error(status.Code(sent), "the text")
		for name, err := range map[string]error{"ours": sent, "plain": plain, "wrapped": fmt.Errorf("submit: %w", sent)} {
			if got := task.CodeOf(FromStatus(err)); got != code {
				t.Errorf("%s (%s) came back as %s", code, name, got)
			}
		}
		var back *task.Error
		if !errors.As(FromStatus(sent), &back) || back.Message != "the "+code.String()+" error" {
			t.Errorf("%s came back as %v", code, FromStatus(sent))
		}
	}
}

// TestWhatBecameOfIt: a caller can tell what surely was not stored from what may be.
func TestWhatBecameOfIt(t *testing.T) {
	for name, c := range map[string]struct {
		err           error
		nothing, open bool
	}{
		"refused":             {ToStatus(task.Errorf(task.CodeUnavailable, "stopping")), true, false},
		"a write that failed": {ToStatus(&task.Error{Code: task.CodeUnavailable, Message: "sync", Err: task.ErrOutcomeUnknown}), false, true},
		"a connection":        {status.Error(codes.Unavailable, "transport is closing"), false, false},
		"a removed task":      {ToStatus(&task.Error{Code: task.CodeNotFound, Message: "removed", Err: task.ErrRemoved}), false, false},
		"a mistake":           {ToStatus(task.Errorf(task.CodeInvalid, "no")), false, false},
	} {
		back := FromStatus(c.err)
		if errors.Is(back, ErrNothingDone) != c.nothing || errors.Is(back, task.ErrOutcomeUnknown) != c.open {
			t.Errorf("%s came back as %#v", name, back)
		}
		if errors.Is(back, task.ErrRemoved) != (name == "a removed task") {
			t.Errorf("%s came back as %#v", name, back)
		}
	}
}

func TestNoCodeIsMissingInTheTable(t *testing.T) {
	beyond := task.CodeUnsupported + 1
	if name := beyond.String(); name != fmt.Sprintf("code(%d)", uint8(beyond)) {
		t.Errorf("task has a new code %q: add it to codeTable", name)
	}
}

func TestToStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		err  error
		want codes.Code
	}{
		"nothing":         {nil, codes.OK},
		"wrapped":         {fmt.Errorf("submit: %w", task.Errorf(task.CodeExhausted, "full")), codes.ResourceExhausted},
		"unknown":         {errors.New("disk on fire"), codes.Internal},
		"cancelled":       {fmt.Errorf("wait: %w", context.Canceled), codes.Canceled},
		"deadline":        {context.DeadlineExceeded, codes.DeadlineExceeded},
		"of gRPC":         {status.Error(codes.Unavailable, "transport is closing"), codes.Unavailable},
		"broken text":     {errors.New("\xff\xfe"), codes.Internal},
		"coded, by a ctx": {task.Errorf(task.CodeUnavailable, "stopping: %w", context.Canceled), codes.Unavailable},
	} {
		if got := status.Code(ToStatus(tc.err)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestContextErrorsComeBackAsThemselves(t *testing.T) {
	if err := FromStatus(status.Error(codes.Canceled, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := FromStatus(status.Error(codes.DeadlineExceeded, "x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
