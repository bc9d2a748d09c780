package workers

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/lease"
)

// Secret is what is in the file that lets a worker of another host connect. It opens
// nothing but the calls of that worker.
type Secret struct {
	Door
	Word  string    `json:"word"`
	Until time.Time `json:"until,omitzero"` // it is good for nothing later
}

// secret is what we keep of it.
type secret struct {
	hash [sha256.Size]byte
	door Door
	set  bool
}

// afterJob is for how long after the end of its job a worker may still report.
const afterJob = 5 * time.Minute

// keepSecret writes the secret of a worker, and writes it anew when the door has changed,
// with the same word. The mutex is held.
func (b *Backend) keepSecret(m *member) {
	d, ok := b.opts.Door()
	if !ok || m.secret.set && m.secret.door == d {
		return
	}
	s, err := ReadSecret(m.folder)
	if err != nil {
		s = Secret{Word: rand.Text()}
	}
	s.Door = d
	if !m.card.Until.IsZero() {
		s.Until = m.card.Until.Add(afterJob)
	}
	text, err := json.Marshal(s)
	if err == nil {
		err = lease.WriteWhole(m.folder.Secret(), text)
	}
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			b.opts.Logger.Warn("cannot write the secret of a worker; it calls through files", "worker", m.id(), "error", err)
		}
		return
	}
	m.secret = secret{hash: sha256.Sum256([]byte(s.Word)), door: d, set: true}
}

// ReadSecret reads the secret of a worker.
func ReadSecret(f lease.Folder) (Secret, error) {
	var s Secret
	b, err := os.ReadFile(f.Secret())
	if err != nil {
		return s, err
	}
	return s, json.Unmarshal(b, &s)
}

// Admit says whose secret a word is, if it is one that still counts.
func (b *Backend) Admit(word string) (worker string, ok bool) {
	sum := sha256.Sum256([]byte(word))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.members {
		if !m.secret.set || subtle.ConstantTimeCompare(m.secret.hash[:], sum[:]) != 1 {
			continue
		}
		until := m.card.Until
		return m.id(), !m.left && !m.jobGone && (until.IsZero() || b.opts.Now().Before(until.Add(afterJob)))
	}
	return "", false
}
