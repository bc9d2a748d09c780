package process

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/host"
)

const (
	// cardName is the file in a spool by which others hear of its supervisor.
	cardName = "supervisor.json"
	// cardSize is the size of that file. It is written over in place, which works on a
	// full disk, and a file server has it all or nothing of it.
	cardSize = 1 << 10
)

// cardEvery is how often a supervisor shows that it is alive. A variable for tests.
var cardEvery = 10 * time.Second

// card is what a supervisor says of itself in a spool, for owners on other hosts, who
// cannot reach its socket.
type card struct {
	Host       string `json:"host"`
	Machine    string `json:"machine"`
	Boot       string `json:"boot"`
	PIDs       uint64 `json:"pids"`
	Supervisor string `json:"supervisor"`
	PID        int    `json:"pid"`
	// Beats grows as long as the supervisor lives. Who reads it goes by its own clock:
	// those of two hosts do not agree.
	Beats uint64 `json:"beats"`
	// Left says that the supervisor has ended in order: it starts nothing any more, and
	// its journal is complete.
	Left bool `json:"left,omitempty"`
}

func (c card) origin() origin {
	return origin{where: host.Identity{Machine: c.Machine, Boot: c.Boot, PIDs: c.PIDs, Name: c.Host}, id: c.Supervisor}
}

// write puts the card into a spool. It is closed at once, since a client of a file
// server sends on then what was written.
func (c card) write(spool string) error {
	b, err := json.Marshal(c)
	if err != nil || len(b) > cardSize {
		return fmt.Errorf("write %s: %d bytes, %w", cardName, len(b), err)
	}
	f, err := os.OpenFile(filepath.Join(spool, cardName), os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(append(b, bytes.Repeat([]byte{' '}, cardSize-len(b))...), 0)
	return errors.Join(err, f.Close())
}

// errNoCard is returned for a spool whose supervisor has said nothing of itself that
// can be read.
var errNoCard = errors.New("the supervisor has not said who it is")

// readCard reads the card of a spool. One that is being written for the first time is
// none yet.
func readCard(spool string) (card, error) {
	f, err := os.OpenFile(filepath.Join(spool, cardName), os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return card{}, fmt.Errorf("%w: %w", errNoCard, err)
	}
	defer f.Close() //nolint:errcheck // only read from
	b, err := io.ReadAll(io.LimitReader(f, cardSize))
	if err != nil {
		return card{}, fmt.Errorf("%w: %w", errNoCard, err)
	}
	var c card
	if err := json.Unmarshal(b, &c); err != nil {
		return card{}, fmt.Errorf("%w: %w", errNoCard, err)
	}
	if c.Supervisor == "" || c.Boot == "" || c.Machine == "" {
		return card{}, fmt.Errorf("%w: half of it is missing", errNoCard)
	}
	return c, nil
}

// show writes the card of a queue's spool, unless the spool is somebody else's by now.
// The clerk calls it, and those who come before and after it.
func (s *supervisor) show(q *queue, left bool) {
	if !q.journal.holdsLock() {
		return
	}
	q.beats++
	c := card{
		Host: s.where.Name, Machine: s.where.Machine, Boot: s.where.Boot, PIDs: s.where.PIDs,
		Supervisor: s.id, PID: os.Getpid(), Beats: q.beats, Left: left,
	}
	if err := c.write(q.journal.dir); err != nil && q.beats == 1 {
		s.log.Warn("cannot say in the spool that this supervisor is alive", "queue", q.id, "error", err)
	}
}

// sendOn has a file server have what is in the journal: others read it there. On a
// local disk they read what we write.
func (s *supervisor) sendOn(q *queue) {
	if q.shared {
		_ = syncFile(filepath.Join(q.journal.dir, journalName)) // the next one comes before long
	}
}
