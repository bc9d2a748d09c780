package queue

// strays reads the pages to which nothing leads, for what is missing.
func (s *salvager) strays() error {
	missing := false
	for name := range strayKinds {
		missing = missing || !s.found.pile([]byte(name)).whole()
	}
	missing = missing || len(s.found.pile(bucketEnvs).bad) > 0
	if !missing {
		return nil
	}
	for id := uint64(2); id < s.high; id++ {
		p, ok := s.peek(id)
		if !ok || p.flags != flagLeaf || s.used.has(id) {
			continue
		}
		// What is in use cannot be in the list of free pages, so what is in neither of
		// the two is what a damaged page led to.
		current := s.found.exact && s.listed && !s.freed.has(id)
		for _, e := range p.readable() {
			s.stray(e, current)
		}
		if id%1024 == 0 {
			s.tell.tell("searching", int64(id)*int64(s.page), int64(len(s.data)))
			if err := s.ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// strayKinds are the buckets whose records can be told by themselves; true for those
// that never change.
var strayKinds = map[string]bool{
	string(bucketSpecs): true, string(bucketTombs): true, string(bucketEvents): true, string(bucketEnvs): true, string(bucketStatus): false,
}

// stray keeps a record if it is missing and can be nothing else than it seems.
func (s *salvager) stray(e element, current bool) {
	if e.bucket {
		return
	}
	kind := ""
	for name := range strayKinds {
		if !fits([]byte(name), e.key, e.value) || !canonical([]byte(name), e.value) {
			continue
		}
		if kind != "" {
			return
		}
		kind = name
	}
	if kind == "" || !current && !strayKinds[kind] {
		return
	}
	p := s.found.pile([]byte(kind))
	if p.gone(e.key) && !p.has(e.key) {
		p.found = append(p.found, e)
	}
}
