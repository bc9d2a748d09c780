package cli

import (
	"bytes"
	"io"
)

// holdMost bounds what is kept back of an output.
const holdMost = 32 << 20

// hold keeps back what is written from now on, and returns how to write it after all.
// While the queue is open for reading nobody can write to it, and a reader of ours,
// such as a pager, may take hours: so it reads when the queue has been closed again.
// What is longer than holdMost is not kept back.
func (s *screen) hold() (release func()) {
	h := &held{to: s.w}
	s.w = h
	return func() {
		s.w = h.to
		if err := h.flush(); err != nil && s.err == nil {
			s.err = err // at which Main looks
		}
	}
}

// held is an output that is kept back.
type held struct {
	to     io.Writer
	buf    bytes.Buffer
	passes bool // it was too long
}

// Write keeps the bytes, or passes them on.
func (h *held) Write(p []byte) (int, error) {
	if !h.passes && h.buf.Len()+len(p) > holdMost {
		h.passes = true
		if err := h.flush(); err != nil {
			return 0, err
		}
	}
	if h.passes {
		return h.to.Write(p)
	}
	return h.buf.Write(p)
}

func (h *held) flush() error {
	if h.buf.Len() == 0 {
		return nil
	}
	_, err := h.buf.WriteTo(h.to)
	return err
}
