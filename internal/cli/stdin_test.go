package cli

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestInterruptedInput: Ctrl-C ends a command that waits for its standard input, too.
func TestInterruptedInput(t *testing.T) {
	for name, args := range map[string][]string{
		"tasks":   {"submit", "--from-file", "-"},
		"ids":     {"cancel", "--from-file", "-"},
		"payload": {"submit", "--payload", "-", "--", "true"},
	} {
		t.Run(name, func(t *testing.T) {
			_, env := startFake(t)
			silent, writer, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer silent.Close()
			defer writer.Close()
			ctx, cancel := context.WithCancelCause(context.Background())
			env.Stdin, env.Args = silent, append([]string{Program}, args...)
			done := make(chan int, 1)
			go func() { done <- Main(ctx, env) }()
			cancel(InterruptedError{Signal: syscall.SIGINT})
			select {
			case code := <-done:
				if code != exitInterrupted {
					t.Errorf("ended with %d", code)
				}
			case <-time.After(20 * time.Second):
				t.Error("it still waits for its input")
				_ = writer.Close()
				<-done
			}
		})
	}
}
