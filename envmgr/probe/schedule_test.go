package probe_test

import (
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

func TestStartup(t *testing.T) {
	t.Parallel()
	var s probe.Startup
	if first, second := s.Next(), s.Next(); first != 20*time.Millisecond || second != 26*time.Millisecond {
		t.Errorf("%v, %v", first, second)
	}
	last, steps := 26*time.Millisecond, 2
	for last < 250*time.Millisecond {
		next := s.Next()
		if ratio := float64(next) / float64(last); next != 250*time.Millisecond && (ratio < 1.299 || ratio > 1.301) || next <= last {
			t.Fatalf("%v follows %v", next, last)
		}
		last = next
		steps++
	}
	if steps != 11 || s.Next() != 250*time.Millisecond || s.Next() != 250*time.Millisecond {
		t.Errorf("%d steps to the longest pause", steps)
	}
}

func TestSteady(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		every  time.Duration
		random float64
		want   time.Duration
	}{
		{0, 0, 4500 * time.Millisecond},
		{0, 0.5, 5 * time.Second},
		{0, 0.999999999999, 5500 * time.Millisecond},
		{10 * time.Second, 0, 9 * time.Second},
		{-1, 0.5, 5 * time.Second},
	} {
		s := probe.Steady{Every: tc.every, Rand: func() float64 { return tc.random }}
		if got := s.Next(); got != tc.want {
			t.Errorf("%+v: %v", tc, got)
		}
	}
	if got := (probe.Steady{}).Next(); got != 5*time.Second {
		t.Errorf("without numbers: %v", got)
	}
}
