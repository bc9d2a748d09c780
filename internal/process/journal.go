package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/host"
	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// errJournalHeld is returned when another supervisor has the journal.
var errJournalHeld = errors.New("the journal belongs to another supervisor")

const (
	journalName  = "journal"
	lockFileName = journalName + ".lock"
	// newSuffix is for files that are renamed when they are whole.
	newSuffix = ".new"
	// frameHead is the length and the CRC-32C before each record.
	frameHead = 8
	// maxFrame is far more than any record needs; a greater length is damage.
	maxFrame = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is the append-only file that holds who has been claimed, started and
// seen to end, for one queue on one host since one boot.
//
// add puts a record into memory, and one write(2) writes all that were added.
// After that they are in the page cache, where no kill can reach them. The file
// is never synced: only a loss of the machine could take it away, and that ends
// the processes that it speaks of as well.
//
// What could not be written is kept and written later, in order and once: no
// record stands behind half of another, and none is lost to a full disk.
//
// It has two sides. add, take and giveBack only touch memory, and the caller
// guards them. append, replace and reset do I/O, which may take long: one caller
// at a time, without the guard of the others (see write).
type journal struct {
	dir    string
	home   os.FileInfo // of the queue's folder, below which dir is
	f      journalFile
	lock   *os.File
	bootID []byte
	size   int64 // of the file, up to the end of the last whole record
	torn   bool  // there may be a part of a record behind that
	buf    []byte
	spare  []byte                     // for the next buf
	rec    supervisorpb.JournalRecord // reused by add
}

// journalFile is what a journal needs of its file. It is opened for appending.
type journalFile interface {
	io.WriteCloser
	Truncate(size int64) error
}

// openJournal locks the journal in dir, making both as needed, and returns it
// with all intact records. What a torn write left behind the last of them is
// cut off.
func openJournal(dir, bootID string) (*journal, []*supervisorpb.JournalRecord, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make spool directory: %w", err)
	}
	lock, err := host.Lock(filepath.Join(dir, lockFileName))
	if errors.Is(err, host.ErrLocked) {
		return nil, nil, fmt.Errorf("%w: %w", errJournalHeld, err)
	}
	if err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, journalName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open journal: %w", err), lock.Close())
	}
	_ = os.Remove(filepath.Join(dir, journalName+newSuffix)) // of one that was killed while it made that
	j := &journal{dir: dir, f: f, lock: lock, bootID: []byte(bootID)}
	j.home, err = os.Stat(homeOf(dir))
	var recs []*supervisorpb.JournalRecord
	var good int64
	if err == nil {
		recs, good, err = readRecords(f)
	}
	if err == nil {
		err = f.Truncate(good)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read journal: %w", err), j.close())
	}
	j.size = good
	return j, recs, nil
}

// announce writes into the lock file where its holder can be reached. A daemon
// that was started with another runtime directory finds it by that.
func (j *journal) announce(socket string) error {
	if err := j.lock.Truncate(0); err != nil {
		return err
	}
	_, err := j.lock.WriteAt([]byte(socket), 0)
	return err
}

// announced returns where the last holder of a spool's journal could be
// reached; "" when nobody said.
func announced(spool string) string {
	b, err := os.ReadFile(filepath.Join(spool, lockFileName))
	if err != nil || len(b) > 4096 || !filepath.IsAbs(string(b)) {
		return ""
	}
	return string(b)
}

// readRecords returns the intact records and the length of the file up to the
// end of the last of them.
func readRecords(r io.Reader) ([]*supervisorpb.JournalRecord, int64, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, 0, err
	}
	var recs []*supervisorpb.JournalRecord
	rest := b
	for len(rest) >= frameHead {
		n := int(binary.LittleEndian.Uint32(rest))
		if n == 0 || n > maxFrame || n > len(rest)-frameHead {
			break // no record is empty: zeros are a hole that a crash or a file server left
		}
		body := rest[frameHead : frameHead+n]
		if crc32.Checksum(body, castagnoli) != binary.LittleEndian.Uint32(rest[4:]) {
			break
		}
		rec := &supervisorpb.JournalRecord{}
		if proto.Unmarshal(body, rec) != nil {
			break // the checksum is right but nothing of ours: as good as torn
		}
		recs = append(recs, rec)
		rest = rest[frameHead+n:]
	}
	return recs, int64(len(b) - len(rest)), nil
}

// add has one record written.
func (j *journal) add(name *supervisorpb.Name, kind isJournalKind) {
	j.buf = j.encode(j.buf, name, kind)
}

// encode appends a record to b as it is in the file.
func (j *journal) encode(b []byte, name *supervisorpb.Name, kind isJournalKind) []byte {
	j.rec.BootId = j.bootID
	j.rec.Name = name
	setKind(&j.rec, kind)
	start := len(b)
	b, err := proto.MarshalOptions{}.MarshalAppend(append(b, make([]byte, frameHead)...), &j.rec)
	if err != nil {
		// Only text that is not UTF-8 could cause it, and none of ours is.
		panic(fmt.Sprintf("marshal journal record: %v", err))
	}
	body := b[start+frameHead:]
	binary.LittleEndian.PutUint32(b[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Checksum(body, castagnoli))
	return b
}

// isJournalKind is any of the messages that a record can hold.
type isJournalKind interface{ proto.Message }

func setKind(r *supervisorpb.JournalRecord, m isJournalKind) {
	switch k := m.(type) {
	case *supervisorpb.Claim:
		r.Kind = &supervisorpb.JournalRecord_Claim{Claim: k}
	case *supervisorpb.Started:
		r.Kind = &supervisorpb.JournalRecord_Started{Started: k}
	case *supervisorpb.Stopping:
		r.Kind = &supervisorpb.JournalRecord_Stopping{Stopping: k}
	case *supervisorpb.End:
		r.Kind = &supervisorpb.JournalRecord_Ended{Ended: k}
	case *supervisorpb.Forgot:
		r.Kind = &supervisorpb.JournalRecord_Forgot{Forgot: k}
	default:
		panic(fmt.Sprintf("no journal record holds a %T", m))
	}
}

// pending says whether something was added that is not in the file.
func (j *journal) pending() bool { return len(j.buf) > 0 }

// take returns what was added and is to be written now.
func (j *journal) take() []byte {
	b := j.buf
	j.buf, j.spare = j.spare[:0], nil
	return b
}

// giveBack puts what could not be written before what was added since.
func (j *journal) giveBack(b []byte) {
	j.buf = append(b, j.buf...)
}

// recycle takes back the memory of what was written.
func (j *journal) recycle(b []byte) {
	if cap(b) <= maxFrame {
		j.spare = b[:0]
	}
}

// append writes records at the end of the file with one write(2). After an error
// none of them counts, and the next append removes what there is of them.
func (j *journal) append(b []byte) error {
	if j.torn {
		if err := j.f.Truncate(j.size); err != nil {
			return fmt.Errorf("remove half a record from the journal: %w", err)
		}
		j.torn = false
	}
	n, err := j.f.Write(b)
	if err != nil {
		j.torn = true
		return fmt.Errorf("write journal: %w", err)
	}
	j.size += int64(n)
	return nil
}

// reset empties the journal, when nothing in it is needed any more.
func (j *journal) reset() error {
	if j.size == 0 && !j.torn {
		return nil
	}
	if err := j.f.Truncate(0); err != nil {
		return fmt.Errorf("empty journal: %w", err)
	}
	j.size, j.torn = 0, false
	return nil
}

// replace puts a journal with just these records in the place of the present
// one. After an error the present one goes on.
func (j *journal) replace(b []byte) error {
	path := filepath.Join(j.dir, journalName)
	f, err := os.OpenFile(path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = os.Rename(path+newSuffix, path)
	}
	if err != nil {
		// It takes room on a disk that may be full; a later one begins anew anyway.
		_ = os.Remove(path + newSuffix)
		return errors.Join(fmt.Errorf("rewrite journal: %w", err), f.Close())
	}
	_ = j.f.Close() // nothing of it is needed any more
	j.f, j.size, j.torn = f, int64(len(b)), false
	return nil
}

func (j *journal) close() error {
	return errors.Join(j.f.Close(), j.lock.Close())
}
