package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// Whoever may follow an owner claims its lease first, by a link: owner.KEY.next is
// made by link(2), which lets one in and no more, on NFS too, where a lock may be
// granted to several. So an owner has one successor, even if several find it dead at
// the same moment, and even if locks lie. A claimant that dies before it has
// followed is an owner like any other to those who come after: its claim can be
// claimed in its turn. The owner, its claimant, the claimant's claimant and so on
// are the succession, and the last of them is the one who counts.

func claimFile(key string) string { return "owner." + key + ".next" }

const claimPattern = "owner.*.next"

// succession returns what owner.json and the claims say, in order; none = nobody.
func succession(dir string) ([]seat, error) {
	var line []seat
	name := OwnerFile
	for {
		s, err := readSeat(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		if s.key == "" || slices.ContainsFunc(line, func(o seat) bool { return o.key == s.key }) {
			return line, nil
		}
		line = append(line, s)
		name = claimFile(s.key)
	}
}

// errTaken says that somebody else was faster; look again.
var errTaken = errors.New("somebody else was faster")

// link makes name a link to the file at path, and answers errTaken where there is a
// file of that name.
func (l *lease) link(path, name string) error {
	to := filepath.Join(l.dir, name)
	err := os.Link(path, to)
	if err == nil {
		return nil
	}
	// The answer of a file server may have been lost, and the second try then finds
	// what the first one made.
	if s, rerr := readSeat(to); rerr == nil && s.key == l.id {
		return nil
	}
	switch {
	case errors.Is(err, os.ErrExist), errors.Is(err, os.ErrNotExist):
		return errTaken // with what we had written, if whoever has the queue took that for a leftover
	case l.local && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EOPNOTSUPP)):
		return copyNew(path, to) // FAT has no links, and locks that are true
	default:
		return fmt.Errorf("link %s: %w", to, err)
	}
}

// copyNew copies a small file to a name that is not there yet.
func copyNew(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return errTaken
	}
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}

// claim makes us the successor of the last of the line. What is read afterwards
// tells whether that was still the last: nobody else can follow it any more.
func (l *lease) claim(path string, last seat) error {
	name := claimFile(last.key)
	if err := l.link(path, name); err != nil {
		return err
	}
	line, err := succession(l.dir)
	if err == nil && (len(line) == 0 || line[len(line)-1].key != l.id) {
		err = errTaken
	}
	if err != nil {
		return errors.Join(err, os.Remove(filepath.Join(l.dir, name)))
	}
	return nil
}

// sweepClaims removes what is left of the succession that led to us. Whoever claims
// an earlier owner from now on finds us when it looks again.
func (l *lease) sweepClaims() {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return // what stays leads nowhere
	}
	for _, e := range entries {
		claim, _ := filepath.Match(claimPattern, e.Name()) // the pattern is well formed
		if claim && e.Name() != claimFile(l.id) {          // which is of one who wants to follow us
			_ = os.Remove(filepath.Join(l.dir, e.Name()))
		}
	}
}
