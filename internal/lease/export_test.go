package lease

// SetAnewAt has files begun anew at another size, and returns what puts that right.
func SetAnewAt(n int64) (undo func()) {
	was, ledger := anewAt, ledgerAnewAt
	anewAt, ledgerAnewAt = n, n
	return func() { anewAt, ledgerAnewAt = was, ledger }
}
