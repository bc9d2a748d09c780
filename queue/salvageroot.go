package queue

// rootAt returns the buckets that a page leads to, if it is a root: by itself, or
// with the pages right below it. Of a root that is damaged in part it returns the rest.
func (s *salvager) rootAt(id uint64) (map[string]element, bool) {
	heads := map[string]element{}
	p, ok := s.peek(id)
	if !ok {
		return nil, false
	}
	pages := []treePage{p}
	if p.flags == flagBranch {
		pages = nil
		all, err := p.elements(nil)
		if err != nil {
			return nil, false
		}
		for _, e := range all {
			if below, ok := s.peek(e.page); ok && below.flags == flagLeaf {
				pages = append(pages, below)
			}
		}
	}
	for _, p := range pages {
		all, err := p.elements(nil)
		if err != nil {
			continue
		}
		for _, e := range all {
			if !e.bucket || len(e.value) < bucketHead {
				return nil, false
			}
			heads[string(e.key)] = e
		}
	}
	return heads, heads[string(bucketMeta)].bucket || len(heads) > len(allBuckets)/2
}

// searchRoot returns the newest root that can be found among all pages: the numbers
// of the event log grow with every change of a task.
func (s *salvager) searchRoot() map[string]element {
	var best map[string]element
	newest := func(a, b map[string]element) bool {
		for _, name := range [][]byte{bucketEvents, bucketSpecs, bucketLists} {
			x, y := sequenceOf(a[string(name)]), sequenceOf(b[string(name)])
			if x != y {
				return x > y
			}
		}
		return false
	}
	for id := uint64(2); id < s.high; id++ {
		heads, ok := s.rootAt(id)
		if !ok || heads[string(bucketSpecs)].key == nil || heads[string(bucketEvents)].key == nil {
			continue
		}
		if best == nil || newest(heads, best) {
			best = heads
		}
	}
	return best
}

func sequenceOf(e element) uint64 {
	if len(e.value) < bucketHead {
		return 0
	}
	return native.Uint64(e.value[8:])
}
