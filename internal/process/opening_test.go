package process

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// While the journal of a queue cannot be read, clients are told so at once: none
// waits in the supervisor for ever.
func TestHelloWhileTheJournalIsRead(t *testing.T) {
	p := newPlace(t)
	d := p.daemon(t, p.options("q"))
	d.connected()
	spool := filepath.Join(p.dir, "slow")
	must(t, os.MkdirAll(spool, 0o700))
	must(t, unix.Mkfifo(filepath.Join(spool, journalName), 0o600))
	h := &supervisorpb.Hello{MinVersion: minVersion, MaxVersion: maxVersion, QueueId: "slow", SpoolDir: []byte(spool)}
	path := filepath.Join(p.runtime(), socketName)
	nc, err := dial(path)
	must(t, err)
	defer nc.Close()
	first := &session{nc: nc}
	must(t, first.send(&supervisorpb.ToSupervisor{Kind: &supervisorpb.ToSupervisor_Hello{Hello: h}}))
	poll(t, "the reading of the journal", func() bool { return fileSize(filepath.Join(spool, lockFileName)) >= 0 })
	for range 2 {
		_, err := openSession(path, h)
		if !errors.Is(err, errRefused) {
			t.Fatalf("error %v", err)
		}
		if msg := err.Error(); !strings.Contains(msg, "journal is being read") {
			t.Fatal(msg)
		}
	}
	d.stop()
	p.signalSupervisor(t, unix.SIGKILL) // it would wait a while for its file system
}
