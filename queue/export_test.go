package queue

// Sparse makes opening look at those pages alone that lead to others, as it does for
// a database that is large.
func (o Options) Sparse() Options {
	o.wholeBytes = 1
	return o
}
