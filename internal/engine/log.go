package engine

import (
	"context"
	"log/slog"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// logMove writes the one line that every change of a task gets.
func (e *Engine) logMove(a task.Applied, ev task.Event) {
	level := slog.LevelInfo
	if !e.log.Enabled(context.Background(), level) {
		return
	}
	st := a.Task.Status()
	attrs := []slog.Attr{
		slog.String(keyTask, a.Task.Spec.ID),
		slog.Uint64(keySeq, uint64(a.Task.Seq)),
		slog.Int(keyAttempt, ev.Attempt),
		slog.String(keyEvent, ev.Kind.String()),
		slog.String(keyFrom, a.From.String()),
		slog.String(keyState, st.State.String()),
	}
	out := st.Outcome
	backend := st.Backend
	if a.Again() {
		out = st.Past[len(st.Past)-1].Outcome
		backend = st.Past[len(st.Past)-1].Backend
	}
	if backend != "" {
		attrs = append(attrs, slog.String(keyBackend, backend))
	}
	if reason := firstText(out.Message, ev.Text); reason != "" && (st.State.Terminal() || a.Again() || ev.Text != "") {
		attrs = append(attrs, slog.String(keyReason, reason))
	}
	e.log.LogAttrs(context.Background(), level, "task", attrs...)
}

func firstText(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
