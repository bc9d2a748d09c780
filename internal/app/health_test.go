package app

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// TestHealthOfAFullDisk: a daemon that has nothing to do, and refuses what it is sent
// since its disk is full, says so until there is room.
func TestHealthOfAFullDisk(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t)
	ballast := filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	o := testOptions(t)
	o.Config.QueueDir, o.Config.GRPCListen, o.Config.HTTPListen = filepath.Join(disk, "queue"), "", ""
	d, err := startDaemon(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.PauseClass(t.Context(), &pb.PauseClassRequest{Class: "cpu_short"}); err != nil { // nothing is to run
		t.Fatal(err)
	}
	health := func() (bool, string) {
		t.Helper()
		h, err := d.Health(t.Context(), &pb.HealthRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return h.GetHealthy(), h.GetServices()["queue"]
	}
	if ok, queue := health(); !ok || queue != "ok" {
		t.Fatalf("before: healthy %v, queue %q", ok, queue)
	}
	submit := func(n int) error {
		_, err := d.SubmitTask(context.Background(), &pb.SubmitTaskRequest{
			Id: fmt.Sprintf("t-%d", n), Payload: map[string]string{"message": strings.Repeat("x", 60<<10)},
		})
		return err
	}
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = submit(n)
	}
	if ok, queue := health(); err == nil || ok || !strings.HasPrefix(queue, "down: ") || !strings.Contains(queue, "its disk is full") {
		t.Errorf("on a full disk, after %v: healthy %v, queue %q", err, ok, queue)
	}
	if err := errors.Join(os.Remove(ballast), submit(n)); err != nil {
		t.Fatal(err)
	}
	if ok, queue := health(); !ok || queue != "ok" {
		t.Errorf("with room again: healthy %v, queue %q", ok, queue)
	}
}

// TestHealthOfAnUnsafeDropFolder: that no file is taken is not in the log alone.
func TestHealthOfAnUnsafeDropFolder(t *testing.T) {
	t.Parallel()
	o := testOptions(t)
	o.Config.GRPCListen, o.Config.HTTPListen = "", ""
	pending := filepath.Join(o.Config.QueueDir, "pending")
	if err := errors.Join(os.MkdirAll(pending, 0o700), os.Chmod(pending, 0o777)); err != nil {
		t.Fatal(err)
	}
	if err := DropFolderTrouble(o.Config.QueueDir); err == nil {
		t.Error("doctor finds nothing")
	}
	d, err := startDaemon(t, o)
	if err != nil {
		t.Fatal(err)
	}
	said := ""
	for end := time.Now().Add(10 * time.Second); !strings.HasPrefix(said, "down: ") && time.Now().Before(end); {
		h, err := d.Health(t.Context(), &pb.HealthRequest{})
		if err != nil {
			t.Fatal(err)
		}
		said = h.GetServices()["drop_folder"]
	}
	if !strings.Contains(said, "others can write to "+pending) || !strings.Contains(said, "chmod go-w") {
		t.Errorf("health says %q", said)
	}
}

// smallDisk mounts a file system of a few megabytes.
func smallDisk(t *testing.T) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("mounting a small file system needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		if errors.Is(err, unix.EPERM) {
			t.Skip("this container may not mount")
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil { // the supervisor lingers
			t.Error(err)
		}
	})
	return dir
}
