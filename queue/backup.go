package queue

import (
	"context"
	"errors"
)

// Backup writes a copy of the database that is in use into a file, for a queue that
// nobody owns, and looks at all of it; see File.Keep. The daemon that owns one is asked
// for a copy instead; see CopyTo.
func Backup(ctx context.Context, opts Options, path string, progress Progress) (Copied, Kept, error) {
	opts.ReadOnly = true
	q, err := hold(ctx, opts)
	if err != nil {
		return Copied{}, Kept{}, err
	}
	f, done, err := q.backup(ctx, path, progress)
	if err := errors.Join(err, q.letGo(q.closeDatabase)); err != nil {
		f.Discard()
		return done, Kept{}, err
	}
	kept, err := f.Keep(ctx, progress) // nobody has to wait for it
	return done, kept, err
}

func (q *Queue) backup(ctx context.Context, path string, progress Progress) (*File, Copied, error) {
	if err := q.identify(); err != nil {
		return nil, Copied{}, err
	}
	f, err := NewFile(path)
	if err != nil {
		return nil, Copied{}, err
	}
	done, err := q.CopyTo(ctx, f.WriteAt, progress)
	return f, done, err
}

// damagedSuffix ends the name of a backup that is damaged.
const damagedSuffix = ".damaged"

// Kept is where a backup is.
type Kept struct {
	Path  string
	Sound bool // nothing is wrong with it
}
