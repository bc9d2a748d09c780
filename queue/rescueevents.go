package queue

// lookEvents finds the gaps of the event log, and where it begins and ends.
func (r *rescuer) lookEvents() {
	events := r.s.pile(bucketEvents)
	r.trimEvents(events)
	if !events.head || !r.s.exact {
		r.last += beyond
	}
	if len(events.items) == 0 {
		if events.head && len(events.lost) > 0 {
			r.found(FoundEvents, 0, "", "the event log up to record %d is lost", r.last)
		}
		r.first = r.last + 1
		return
	}
	r.first = uint64(keySeq(events.items[0].key))
	before := r.first - 1
	for _, e := range events.items {
		at := uint64(keySeq(e.key))
		r.gap(before+1, at-1)
		before = at
	}
	if events.head && r.s.exact {
		r.gap(before+1, r.last)
	}
	for _, lost := range events.lost {
		if from, _ := r.numbers(lost, r.last); from < r.first {
			r.found(FoundEvents, 0, "", "records of the event log before %d may be lost", r.first)
			break
		}
	}
}

// maxGap is the longest piece of the event log that is filled with empty records.
const maxGap = 200_000

// trimEvents finds out which number is the last, and leaves out records whose numbers
// are far from those of the others: neither the keys nor the sequence of the bucket
// have a checksum, and one wrong bit must not make millions of records missing.
func (r *rescuer) trimEvents(events *pile) {
	all := len(events.items)
	number := func(i int) uint64 { return uint64(keySeq(events.items[i].key)) }
	if above := all - int(events.between(0, events.seq)); events.head && r.s.exact && above > 0 && above <= all/2 {
		events.items = events.items[:all-above]
	}
	for i := len(events.items) - 1; i > 0; i-- {
		if number(i)-number(i-1) <= maxGap {
			continue
		}
		if len(events.items)-i >= i {
			events.items = events.items[i:]
			break
		}
		events.items = events.items[:i]
	}
	if left := all - len(events.items); left > 0 {
		r.found(FoundEvents, 0, "", "%d records of the event log have numbers that cannot be theirs", left)
	}
	r.last = events.seq
	n := len(events.items)
	if n > 0 && !r.s.exact && number(n-1)-min(number(n-1), r.last) <= maxGap {
		r.last = max(r.last, number(n-1)) // the sequence may be an older one
	}
	if n > 0 && (number(n-1) > r.last || r.last-number(n-1) > maxGap) {
		r.last = number(n-1) + beyond
		r.found(FoundEvents, 0, "", "the number of the last record of the event log is lost")
	}
}

func (r *rescuer) gap(from, to uint64) {
	switch {
	case from > to:
	case from == to:
		r.found(FoundEvents, 0, "", "record %d of the event log is lost", from)
	default:
		r.found(FoundEvents, 0, "", "%d records of the event log are lost, %d to %d", to-from+1, from, to)
	}
}
