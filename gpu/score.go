package gpu

import "slices"

// distances are how far apart two GPUs of one level are, on go-gpuallocator's
// scale: the nearer, the more.
var distances = map[Level]int{
	LevelBoard: 60, LevelSwitch: 50, LevelSwitches: 40, LevelHostBridge: 30, LevelNode: 20, LevelSystem: 10,
}

// perNVLink outweighs every path over PCIe.
const perNVLink = 100

// closeness says how well pairs of devices talk: between candidates i and j it is
// near[i][j], the same both ways.
type closeness [][]int

func closenessOf(devices []*Device, links []Link) closeness {
	at := make(map[DeviceID]int, len(devices))
	near := make(closeness, len(devices))
	for i, d := range devices {
		at[d.ID], near[i] = i, make([]int, len(devices))
	}
	for _, l := range links {
		i, ok := at[l.A]
		j, too := at[l.B]
		if ok && too {
			n := perNVLink*l.NVLinks + distances[l.Level]
			near[i][j], near[j][i] = n, n
		}
	}
	return near
}

// mostTried bounds the exhaustive search: half of 16 devices are 12,870 ways.
const mostTried = 20_000

// best returns n of the candidates, as indexes in rising order: those that talk
// best to one another; of equals, those that leave the others talking best; of
// equals, the first.
func (near closeness) best(n int) []int {
	if ways(len(near), n) > mostTried {
		return near.greedy(n)
	}
	s := search{near: near, n: n, rows: near.rows(), inside: -1}
	s.extend(0, nil, 0, 0)
	return s.found
}

// rows are the sums of each candidate's row.
func (near closeness) rows() []int {
	sums := make([]int, len(near))
	for i, row := range near {
		for _, v := range row {
			sums[i] += v
		}
	}
	return sums
}

// search walks the subsets of one size in lexical order.
type search struct {
	near         closeness
	n            int
	rows         []int
	found        []int
	inside, rest int
}

// extend tries every way to complete chosen with candidates from first on.
// inside is what chosen has among itself, rows the sum of its rows.
func (s *search) extend(first int, chosen []int, inside, rows int) {
	if len(chosen) == s.n {
		// What is left has everything but the rows of those chosen, in which what is
		// inside counts twice: all - rows + inside, and "all" is the same for each.
		if rest := inside - rows; inside > s.inside || inside == s.inside && rest > s.rest {
			s.found, s.inside, s.rest = slices.Clone(chosen), inside, rest
		}
		return
	}
	for i := first; i <= len(s.near)-(s.n-len(chosen)); i++ {
		more := 0
		for _, j := range chosen {
			more += s.near[i][j]
		}
		s.extend(i+1, append(chosen, i), inside+more, rows+s.rows[i])
	}
}

// greedy grows a set from each candidate by whoever fits best, and takes the
// best of these sets: for machines too large to try all.
func (near closeness) greedy(n int) []int {
	var found []int
	best := -1
	for seed := range near {
		chosen, inside := near.grow(seed, n)
		if inside > best {
			found, best = chosen, inside
		}
	}
	slices.Sort(found)
	return found
}

func (near closeness) grow(seed, n int) (chosen []int, inside int) {
	chosen = []int{seed}
	gain := slices.Clone(near[seed])
	for len(chosen) < n {
		next := -1
		for i := range near {
			if !slices.Contains(chosen, i) && (next < 0 || gain[i] > gain[next]) {
				next = i
			}
		}
		inside += gain[next]
		chosen = append(chosen, next)
		for i := range gain {
			gain[i] += near[next][i]
		}
	}
	return chosen, inside
}

// ways is how many subsets of n there are among k, or something above mostTried.
func ways(k, n int) int {
	w := 1
	for i := range min(n, k-n) {
		if w = w * (k - i) / (i + 1); w > mostTried {
			return w
		}
	}
	return w
}
