package queue

import "slices"

// sizes are numbers of which the least is asked for: what the shapes of a class
// need. Different ones are few, even where there are many shapes.
type sizes struct {
	order []int64 // the different ones, the least first
	count map[int64]int
}

func (s *sizes) add(n int64) {
	if s.count == nil {
		s.count = map[int64]int{}
	}
	if s.count[n]++; s.count[n] == 1 {
		at, _ := slices.BinarySearch(s.order, n)
		s.order = slices.Insert(s.order, at, n)
	}
}

func (s *sizes) remove(n int64) {
	if s.count[n]--; s.count[n] > 0 {
		return
	}
	delete(s.count, n)
	if at, ok := slices.BinarySearch(s.order, n); ok {
		s.order = slices.Delete(s.order, at, at+1)
	}
}

// least returns 0 when there are none.
func (s *sizes) least() int64 {
	if len(s.order) == 0 {
		return 0
	}
	return s.order[0]
}
