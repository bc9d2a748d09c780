package gpupool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/dspy-agent/dspy-agent/gpu"
)

// memory is what the file has.
type memory struct {
	Format int             `json:"format"`
	Book   gpu.Book        `json:"book"`
	Usage  []usageInMemory `json:"usage,omitempty"`
	// Told has the failures that were told, by their beginning.
	Told map[gpu.DeviceID]time.Time `json:"told,omitempty"`
}

const memoryFormat = 1

// load reads the file. One that cannot be read is put aside: what it knew of the
// devices' health is seen again, and what it knew of drains is a person's to say again.
func (p *Pool) load() error {
	b, err := os.ReadFile(p.o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read what is known of the GPUs: %w", err)
	}
	var m memory
	if err := json.Unmarshal(b, &m); err != nil || m.Format != memoryFormat {
		aside := p.o.File + ".unread"
		p.o.Log.Error("what was known of the GPUs cannot be read, and is put aside; drain anew what was drained", "file", aside, "error", err)
		return os.Rename(p.o.File, aside)
	}
	p.book = m.Book
	maps.Copy(p.told, m.Told)
	for _, u := range m.Usage {
		p.usage[u.Ref] = &usage{Busy: u.Busy, Unknown: u.Unknown, Peak: u.Peak, Contended: u.Contended}
	}
	return nil
}

// saveEvery is how often the file is written for what only time changes.
const saveEvery = 30 * time.Second

// save writes the file, if there is something new, without the lock: the disk may take its
// time. sync says that it must survive a loss of power: somebody was told so. The rest, a
// reboot makes void anyway.
func (p *Pool) save(sync bool) {
	if err := p.trySave(sync); err != nil {
		p.o.Log.Error("what is known of the GPUs cannot be written; drains and health may be forgotten at the next start", "file", p.o.File, "error", err)
	}
}

func (p *Pool) trySave(sync bool) error {
	p.file.Lock() // what is newer is written later
	defer p.file.Unlock()
	p.mu.Lock()
	fixed, all, err := p.due(sync)
	p.mu.Unlock()
	if err != nil || all == nil {
		return err
	}
	return p.write(fixed, all, sync)
}

// due is what the file is to have, and what of it time alone does not change, with both locks
// held. Nil = the file has it.
func (p *Pool) due(surely bool) (fixed, all []byte, err error) {
	if fixed, err = json.Marshal(p.book.Fixed()); err != nil {
		return nil, nil, err
	}
	if !surely && bytes.Equal(fixed, p.saved) && time.Since(p.savedAt) < saveEvery {
		return fixed, nil, nil
	}
	all, err = json.Marshal(memory{Format: memoryFormat, Book: p.book, Usage: p.usageNow(), Told: p.told})
	return fixed, all, err
}

// write writes the file, with its lock held.
func (p *Pool) write(fixed, all []byte, sync bool) error {
	if err := writeFile(p.o.File, all, sync); err != nil {
		return err
	}
	p.saved, p.savedAt = fixed, time.Now()
	return nil
}

func writeFile(path string, b []byte, sync bool) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if sync && err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil || !sync {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
