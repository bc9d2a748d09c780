package containerinit

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"
)

// What is in the folder of a record.
const (
	claimFile = "claim.json"
	endFile   = "end.json"
	// OutputFile is the attempt's log by another name. It is there before the container is.
	OutputFile = "output"
	newSuffix  = ".new"
)

// version is that of the record. Later ones only add fields.
const version = 1

// End is how a program ended.
type End struct {
	Version int       `json:"v"`
	At      time.Time `json:"at"`
	Code    int       `json:"code"` // as shells tell it: 128 + N for signal N
	Signal  int       `json:"signal,omitempty"`
	Asked   bool      `json:"asked,omitempty"`   // somebody outside had asked it to end
	OOM     bool      `json:"oom,omitempty"`     // the kernel killed something in it for lack of memory
	Trouble string    `json:"trouble,omitempty"` // why it could not be run
	Dropped int64     `json:"dropped,omitempty"` // bytes of output for which there was no room
}

// Record is what is known of an attempt without its engine.
type Record struct {
	Gone      bool      // there is not even a folder: it was removed, or never made
	Claimed   bool      // it has begun, or was withdrawn
	Withdrawn bool      // it has not begun, and never will
	At        time.Time // when it began; zero = that is not known
	Alive     bool      // its container surely lives
	End       *End      // nil = it has not ended, or was killed with its container
}

// Begun says that the program was started, as far as that was possible.
func (r Record) Begun() bool { return r.Claimed && !r.Withdrawn }

// Read reads the record in a folder. What the program has made of it is no error: of a
// record that was spoiled it is known that the program has begun, and no more. An error
// may pass.
func Read(dir string) (Record, error) {
	d, err := openFolder(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Record{Gone: true}, nil
	case errors.Is(err, errStrange):
		return Record{Claimed: true}, nil
	case err != nil:
		return Record{}, fmt.Errorf("open the record of a container: %w", err)
	}
	defer d.close()
	return d.record()
}

// record reads it: first whether its container lives, then the end. Of who is dead nothing
// more comes.
func (d folder) record() (Record, error) {
	r, err := d.claimed()
	if err != nil {
		return Record{}, fmt.Errorf("read the claim of a container: %w", err)
	}
	end, there, err := d.ended()
	if err != nil {
		return Record{}, fmt.Errorf("read the end of a container: %w", err)
	}
	if there { // without a claim as well: the program can remove that
		r.Claimed, r.Withdrawn, r.End = true, false, end
	}
	return r, nil
}

// claimed reads the claim.
func (d folder) claimed() (Record, error) {
	f, err := d.plain(claimFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Record{}, nil
	case errors.Is(err, errStrange):
		return Record{Claimed: true}, nil
	case err != nil:
		return Record{}, err
	}
	defer f.Close() //nolint:errcheck // only read from
	b, err := read(f)
	if err != nil {
		return Record{}, err
	}
	r, c := Record{Claimed: true}, claim{}
	if err := json.Unmarshal(b, &c); err != nil {
		return r, nil //nolint:nilerr // its being there is what counts
	}
	// Locked by whom we cannot know, but on this machine it means what it says. What was
	// withdrawn is locked by nobody.
	locked := c.Boot == bootID() && errors.Is(unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB), unix.EWOULDBLOCK)
	r.At, r.Alive, r.Withdrawn = c.At, locked, c.Withdrawn && !locked
	return r, nil
}

// ended reads the end. It may be there and not be one that an init has written: then the
// engine knows more.
func (d folder) ended() (e *End, there bool, err error) {
	f, err := d.plain(endFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false, nil
	case errors.Is(err, errStrange):
		return nil, true, nil
	case err != nil:
		return nil, false, err
	}
	defer f.Close() //nolint:errcheck // only read from
	b, err := read(f)
	if err != nil {
		return nil, false, err
	}
	var end End
	if json.Unmarshal(b, &end) != nil || end.Version < 1 {
		return nil, true, nil
	}
	return &end, true, nil
}

// keep writes down the end, and tries again for a while: the disk may be full.
func (e End) keep(dir string) error {
	for late := time.Now().Add(endPatience); ; time.Sleep(fullPause) {
		err := e.write(dir)
		if err == nil || errors.Is(err, errStrange) || errors.Is(err, fs.ErrNotExist) || !time.Now().Before(late) {
			return err
		}
	}
}

// write writes down the end, in one step.
func (e End) write(dir string) error {
	d, err := openFolder(dir)
	if err != nil {
		return err
	}
	defer d.close()
	e.Version = version
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	name, at := unique(endFile), int(d.f.Fd())
	f, err := d.openat(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = unix.Renameat(at, name, at, endFile)
	}
	if err != nil {
		return errors.Join(err, unix.Unlinkat(at, name, 0))
	}
	return nil
}
