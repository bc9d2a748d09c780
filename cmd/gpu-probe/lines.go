package main

import (
	"encoding/json"
	"io"
	"sync"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// lines writes reports, whole, from several goroutines.
type lines struct {
	mu  sync.Mutex
	out *json.Encoder
}

func newLines(w io.Writer) *lines { return &lines{out: json.NewEncoder(w)} }

// write writes one report. Whom it fails for is gone, and then standard input
// ends too.
func (l *lines) write(r gpu.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.out.Encode(r)
}
