package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/internal/process/supervisorpb"
)

// errJournalHeld is returned when another supervisor has the journal.
var errJournalHeld = errors.New("the journal belongs to another supervisor")

const (
	journalName = "journal"
	// frameHead is the length and the CRC-32C before each record.
	frameHead = 8
	// maxFrame is far more than any record needs; a greater length is damage.
	maxFrame = 1 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// journal is the append-only file that holds who has been claimed, started and
// seen to end, for one queue on one host since one boot.
//
// add puts a record into memory, and commit writes all of them with one
// write(2). After that they are in the page cache, where no kill can reach them.
// The file is never synced: only a loss of the machine could take it away, and
// that ends the processes that it speaks of as well.
type journal struct {
	dir    string
	f      *os.File
	lock   *os.File
	bootID []byte
	size   int64
	buf    []byte
	rec    supervisorpb.JournalRecord // reused by add
}

// openJournal locks the journal in dir, making both as needed, and returns it
// with all intact records. What a torn write left behind the last of them is
// cut off.
func openJournal(dir, bootID string) (*journal, []*supervisorpb.JournalRecord, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("make spool directory: %w", err)
	}
	lock, err := lockFile(filepath.Join(dir, journalName+".lock"))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s", err, dir)
	}
	f, err := os.OpenFile(filepath.Join(dir, journalName), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open journal: %w", err), lock.Close())
	}
	j := &journal{dir: dir, f: f, lock: lock, bootID: []byte(bootID)}
	recs, good, err := readRecords(f)
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
	b, err := os.ReadFile(filepath.Join(spool, journalName+".lock"))
	if err != nil || len(b) > 4096 || !filepath.IsAbs(string(b)) {
		return ""
	}
	return string(b)
}

// lockFile takes an flock that lasts as long as the file is open.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open lock: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errJournalHeld
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
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
		if n > maxFrame || n > len(rest)-frameHead {
			break
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

// add puts one record into the buffer; commit writes it.
func (j *journal) add(name *supervisorpb.Name, kind isJournalKind) {
	j.rec.BootId = j.bootID
	j.rec.Name = name
	setKind(&j.rec, kind)
	start := len(j.buf)
	j.buf = append(j.buf, make([]byte, frameHead)...)
	out, err := proto.MarshalOptions{}.MarshalAppend(j.buf, &j.rec)
	if err != nil {
		// Only text that is not UTF-8 could cause it, and none of ours is.
		panic(fmt.Sprintf("marshal journal record: %v", err))
	}
	j.buf = out
	body := j.buf[start+frameHead:]
	binary.LittleEndian.PutUint32(j.buf[start:], uint32(len(body)))
	binary.LittleEndian.PutUint32(j.buf[start+4:], crc32.Checksum(body, castagnoli))
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

// commit writes what add collected, with one write(2). After an error nothing
// of it is in the file.
func (j *journal) commit() error {
	if len(j.buf) == 0 {
		return nil
	}
	n, err := j.f.Write(j.buf)
	if err != nil {
		if n > 0 { // a full disk took a part; what follows must not stand behind half a record
			err = errors.Join(err, j.f.Truncate(j.size))
		}
		j.buf = j.buf[:0]
		return fmt.Errorf("write journal: %w", err)
	}
	j.size += int64(n)
	j.buf = j.buf[:0]
	return nil
}

// reset empties the journal, when nothing in it is needed any more.
func (j *journal) reset() error {
	if j.size == 0 {
		return nil
	}
	if err := j.f.Truncate(0); err != nil {
		return fmt.Errorf("empty journal: %w", err)
	}
	j.size = 0
	return nil
}

// rewrite replaces the journal by one with only the records that write adds.
func (j *journal) rewrite(write func()) error {
	path := filepath.Join(j.dir, journalName)
	f, err := os.OpenFile(path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("rewrite journal: %w", err)
	}
	old, oldSize := j.f, j.size
	j.f, j.size = f, 0
	write()
	err = j.commit()
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		j.f, j.size = old, oldSize
		return errors.Join(fmt.Errorf("rewrite journal: %w", err), f.Close())
	}
	return old.Close()
}

func (j *journal) close() error {
	return errors.Join(j.f.Close(), j.lock.Close())
}
