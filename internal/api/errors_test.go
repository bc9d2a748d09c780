package api

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
		sent := toStatus(task.Errorf(code, "the %s error", code))
		if got := status.Code(sent); seen[got] || got == codes.OK {
			t.Errorf("%s travels as %s, which is taken", code, got)
		} else {
			seen[got] = true
		}
		// The code must survive without our detail too: other clients see only this.
		plain := status.Error(status.Code(sent), "the text")
		for name, err := range map[string]error{"ours": sent, "plain": plain, "wrapped": fmt.Errorf("submit: %w", sent)} {
			if got := task.CodeOf(fromStatus(err)); got != code {
				t.Errorf("%s (%s) came back as %s", code, name, got)
			}
		}
		var back *task.Error
		if !errors.As(fromStatus(sent), &back) || back.Message != "the "+code.String()+" error" {
			t.Errorf("%s came back as %v", code, fromStatus(sent))
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
		if got := status.Code(toStatus(tc.err)); got != tc.want {
			t.Errorf("%s: %s, want %s", name, got, tc.want)
		}
	}
}

func TestContextErrorsComeBackAsThemselves(t *testing.T) {
	if err := fromStatus(status.Error(codes.Canceled, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := fromStatus(status.Error(codes.DeadlineExceeded, "x")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
