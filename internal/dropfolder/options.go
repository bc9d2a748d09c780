package dropfolder

import (
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

// Options is what a Folder is made of.
type Options struct {
	// Dir is the directory that holds pending/ and the others. It has to be there;
	// they are made as needed.
	Dir   string
	Tasks Tasks
	Log   Log
	// Origin says whether what lies in taken/ is to be trusted.
	Origin Origin
	// Logger gets what an operator should know.
	Logger *slog.Logger
	// Now is the clock. Defaults to time.Now.
	Now func() time.Time
	// Network says that other hosts may write to the folder. Then inotify, which
	// sees what this host does, is not used, and looks are further apart.
	Network bool
	// Patience is how long a file may stay unchanged without being whole before it
	// is rejected. Defaults to DefaultPatience.
	Patience time.Duration
	// MaxFileBytes is how long a file may be. Defaults to DefaultMaxFileBytes.
	MaxFileBytes int64

	// clock is what the last look at the file system's clock has found.
	clock fileClock
	// syncDirs is syncAll, and stat is that of a directory, for tests that want others.
	syncDirs func(...*dir) error
	stat     func(d *dir, name string) (unix.Stat_t, error)
}

// Defaults of Options.
const (
	DefaultPatience = time.Minute
	// DefaultMaxFileBytes has room for the largest payload, as people lay out JSON.
	DefaultMaxFileBytes = task.MaxPayloadBytes * 5 / 2
)

// How often the folder is looked at, and how much of it at once.
const (
	// settleLocal and settleNetwork lie between the two looks that have to agree:
	// longer than the grain of a file's times; on a network file system longer than
	// a write of another host may take to be seen in part.
	settleLocal   = 100 * time.Millisecond
	settleNetwork = time.Second
	// pollBusy and pollIdle lie between two looks at the whole folder.
	pollBusy = time.Second
	pollIdle = 5 * time.Second
	// recheckLocal lies between two looks into taken/ where no other host is known to see
	// it. A former owner may be one that sees it all the same, as one to whom our disk is
	// exported does.
	recheckLocal = time.Minute
	// retryFirst and retryLast lie between two tries of what failed.
	retryFirst = time.Second
	retryLast  = 30 * time.Second
	// stalePatiences is after how many times the patience a file on a network file system
	// counts as given up by its age alone, by the clock of the server that stamped it: for
	// a minute, and on some mounts longer, hosts go by what they knew of it. Who comes
	// from cron does not stay for the patience.
	stalePatiences = 5

	// maxBatch and maxBatchBytes bound what is read and submitted at once.
	maxBatch      = 256
	maxBatchBytes = 16 << 20
	// maxLooks bounds how many files are remembered between two looks. What lies in
	// the folder beyond it waits until others have been dealt with.
	maxLooks = 100_000
	// maxRecords is how many records of the log are read at once.
	maxRecords = 1000
)

func (o Options) withDefaults() (Options, error) {
	if o.Dir == "" || o.Tasks == nil || o.Log == nil || o.Origin == nil || o.Logger == nil {
		return o, errors.New("dropfolder: Dir, Tasks, Log, Origin and Logger are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Patience <= 0 {
		o.Patience = DefaultPatience
	}
	if o.MaxFileBytes <= 0 {
		o.MaxFileBytes = DefaultMaxFileBytes
	}
	if o.syncDirs == nil {
		o.syncDirs = syncAll
	}
	if o.stat == nil {
		o.stat = (*dir).stat
	}
	return o, nil
}

// settle is how far apart two looks have to be.
func (o Options) settle() time.Duration {
	if o.Network {
		return settleNetwork
	}
	return settleLocal
}

// stale is how old a file has to be to count as given up by its age alone.
func (o Options) stale() time.Duration {
	if o.Network {
		return stalePatiences * o.Patience
	}
	return o.Patience
}

// recheck is how far apart two looks into taken/ are, where others may have put
// something: 0 = at every scan.
func (o Options) recheck() time.Duration {
	if o.Network {
		return 0
	}
	return recheckLocal
}
