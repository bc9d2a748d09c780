package process

import (
	"errors"
	"testing"
	"time"
)

// An environment that does not come is waited for once, and by one thread. Others
// are read meanwhile, and it is itself as soon as it can be.
func TestEnvironmentThatDoesNotCome(t *testing.T) {
	released := make(chan struct{})
	asked := make(chan int, 10)
	r := &environReader{patience: 50 * time.Millisecond, opaque: map[int]struct{}{}, read: func(pid int) ([]byte, error) {
		asked <- pid
		if pid == 1 {
			<-released
		}
		return []byte("A=1"), nil
	}}
	for range 3 {
		if _, err := r.of(1); !errors.Is(err, errOpaque) {
			t.Fatalf("error %v", err)
		}
	}
	if env, err := r.of(2); err != nil || string(env) != "A=1" {
		t.Errorf("%q, %v", env, err)
	}
	if first, second := <-asked, <-asked; first != 1 || second != 2 || len(asked) > 0 {
		t.Errorf("the kernel was asked for %d, %d and %d more", first, second, len(asked))
	}
	close(released)
	poll(t, "the environment", func() bool { env, err := r.of(1); return err == nil && string(env) == "A=1" })
}

// However many do not come, a bounded number of threads waits.
func TestEnvironmentsThatDoNotCome(t *testing.T) {
	released := make(chan struct{})
	asked := make(chan int, 10*mostOpaque)
	r := &environReader{patience: time.Millisecond, opaque: map[int]struct{}{}, read: func(pid int) ([]byte, error) {
		asked <- pid
		<-released
		return nil, nil
	}}
	for pid := range 2 * mostOpaque {
		if _, err := r.of(pid); !errors.Is(err, errOpaque) {
			t.Errorf("error %v", err)
		}
	}
	poll(t, "the question for each", func() bool { return len(asked) >= mostOpaque })
	if n := len(asked); n != mostOpaque {
		t.Errorf("%d threads wait, want %d", n, mostOpaque)
	}
	close(released)
	poll(t, "the end of all", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.opaque) == 0 })
}
