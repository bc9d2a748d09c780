package api

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/task"
)

const (
	// nearRecords is how far behind the time of an end its record is looked for
	// before the rest of the log is read: more may have been committed between only
	// if the end was reported late.
	nearRecords = 4096
	// lateReport is how much later than a task ended the log may begin so that the
	// end is looked for all the same: it may have been reported that late.
	lateReport = 24 * time.Hour
)

// findEnds finds the records of the ends of the tasks that have ended. One that is
// not found has none any more, or the clock was set back so far that it is
// elsewhere, or it cannot be read; in each case its end is known from the task.
func findEnds(log Log, tasks *chosen) (ends, error) {
	s := endSearch{log: log, tasks: tasks, found: map[task.Seq]task.Record{}, blanks: map[uint64]bool{}}
	first, err := readSome(log, 0, 1)
	if err != nil || len(first) == 0 {
		return ends{}, err
	}
	s.first = first[0].Index
	began, err := s.readFrom(s.first)
	if err != nil {
		return ends{}, err
	}
	var wanted []task.Seq
	for seq, t := range tasks.bySeq {
		if t.endedAt != 0 && t.endedAt.Add(lateReport) >= began.At {
			wanted = append(wanted, seq)
		}
	}
	// In the order of their ends, so that the records of one search answer for many.
	slices.SortFunc(wanted, func(a, b task.Seq) int {
		return cmp.Or(cmp.Compare(tasks.bySeq[a].endedAt, tasks.bySeq[b].endedAt), cmp.Compare(a, b))
	})
	s.missing = len(wanted)
	places := make(map[task.Seq]uint64, len(wanted))
	var far uint64 // from where on the rest of the log is to be read; 0 = nowhere
	for _, seq := range wanted {
		if _, ok := s.found[seq]; ok {
			continue
		}
		from, err := s.placeOf(tasks.bySeq[seq].endedAt)
		if err != nil {
			return ends{}, err
		}
		places[seq] = from
		if err := s.scan(from, min(from+nearRecords-1, tasks.until), seq); err != nil {
			return ends{}, err
		}
		if _, ok := s.found[seq]; !ok && far == 0 {
			far = from
		}
	}
	if far != 0 {
		err = s.scan(far, tasks.until, 0)
	}
	return ends{s.found, s.fillBlanks(wanted, places)}, err
}

// ends is what the log has of the ends of tasks.
type ends struct {
	kept  map[task.Seq]task.Record
	blank map[task.Seq]uint64 // of those without a record, the one that stands for it
}

// fillBlanks gives each end that was not found a record that cannot be read, to stand for
// its own: a repair puts empty ones where some were lost. The first to end gets the first
// behind its time, which leaves enough for all others; which one really was its own does
// not matter, as long as each has one, and the same each time.
func (s *endSearch) fillBlanks(wanted []task.Seq, places map[task.Seq]uint64) map[task.Seq]uint64 {
	out := map[task.Seq]uint64{}
	blanks := slices.Sorted(maps.Keys(s.blanks))
	for _, seq := range wanted {
		if _, kept := s.found[seq]; kept {
			continue
		}
		at, _ := slices.BinarySearch(blanks, places[seq])
		if at < len(blanks) {
			out[seq] = blanks[at]
			blanks = slices.Delete(blanks, at, at+1)
		}
	}
	return out
}

// endSearch looks for the records of ends.
type endSearch struct {
	log     Log
	first   uint64 // the index of the oldest record
	tasks   *chosen
	found   map[task.Seq]task.Record
	blanks  map[uint64]bool // records that were met and cannot be read
	missing int
}

// readFrom returns the first record from an index on that can be read; one without an
// Index if there is none.
func (s *endSearch) readFrom(from uint64) (task.Record, error) {
	for n := 1; ; n = chunk { // as a rule it is the first
		records, err := readSome(s.log, from, n)
		if err != nil || len(records) == 0 {
			return task.Record{}, err
		}
		for _, r := range records {
			if r.Kind != 0 {
				return r, nil
			}
		}
		from = records[len(records)-1].Index + 1
	}
}

// placeOf returns the index of the first record that was not written before a
// time, as far as the clock went on steadily.
func (s *endSearch) placeOf(at task.Instant) (uint64, error) {
	var err error
	n := sort.Search(int(s.tasks.until-s.first+1), func(i int) bool {
		if err != nil {
			return true
		}
		var r task.Record
		r, err = s.readFrom(s.first + uint64(i))
		return r.Index == 0 || r.At >= at
	})
	return s.first + uint64(n), err
}

// scan reads a part of the log, until the end of that task is found, or of all if
// none is named.
func (s *endSearch) scan(from, to uint64, until task.Seq) error {
	for from <= to && s.missing > 0 {
		records, err := readSome(s.log, from, int(min(chunk, to-from+1)))
		if err != nil || len(records) == 0 {
			return err
		}
		for _, r := range records {
			s.note(r)
		}
		if _, ok := s.found[until]; ok {
			return nil
		}
		from = records[len(records)-1].Index + 1
	}
	return nil
}

// note takes a record that is the end of a task that is looked for. An attempt
// before the one that has ended is history.
func (s *endSearch) note(r task.Record) {
	if r.Kind == 0 {
		s.blanks[r.Index] = true
		return
	}
	t := s.tasks.bySeq[r.Seq]
	if t == nil || t.endedAt == 0 || !r.Ended() || r.Attempt < t.attempt {
		return
	}
	if t.final != nil && r.At < t.endedAt {
		return // of an earlier attempt: which one was the last is known by the time alone
	}
	if _, twice := s.found[r.Seq]; !twice {
		s.found[r.Seq] = r
		s.missing--
	}
}

// firstIndex returns the index of the oldest record, or of the next one when
// there is none.
func firstIndex(log Log) (uint64, error) {
	next := log.LastIndex() + 1
	records, err := readSome(log, 0, 1)
	if err != nil || len(records) == 0 {
		return next, err
	}
	return records[0].Index, nil
}

func readSome(log Log, from uint64, limit int) ([]task.Record, error) {
	records, err := log.Records(from, limit)
	if err != nil {
		return nil, fmt.Errorf("read the event log: %w", err)
	}
	return records, nil
}
