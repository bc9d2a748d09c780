package main

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// when takes a step if a variable has a value, or if it has not.
func (s *standin) when(what string, is bool) error {
	condition, step, _ := strings.Cut(what, ":")
	name, value, _ := strings.Cut(condition, "=")
	if (os.Getenv(name) == value) == is { //nolint:forbidigo // the container's settings are the question
		s.do(step)
	}
	return nil
}

// stepsOf takes the steps that are in a variable.
func (s *standin) stepsOf(name string) error {
	for step := range strings.FieldsSeq(os.Getenv(name)) { //nolint:forbidigo // the container's settings are the question
		s.do(step)
	}
	return nil
}

// firstStarts takes a step in the first starts of the container. They are counted
// in a file, which lives as long as the container.
func (s *standin) firstStarts(what string) error {
	n, step, _ := strings.Cut(what, ":")
	limit, err := strconv.Atoi(n)
	if err != nil {
		return err
	}
	if s.starts == 0 {
		if s.starts, err = countStart("/tmp/starts"); err != nil {
			return err
		}
	}
	if s.starts <= limit {
		s.do(step)
	}
	return nil
}

func countStart(path string) (int, error) {
	before, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	n := len(before) + 1
	return n, os.WriteFile(path, []byte(strings.Repeat(".", n)), 0o644)
}

// crash ends the program after a while, whatever it does then.
func crash(what string) error {
	after, code, _ := strings.Cut(what, ":")
	d, err := time.ParseDuration(after)
	if err != nil {
		return err
	}
	return number(code, func(code int64) { time.AfterFunc(d, func() { leave(int(code)) }) })
}
