package access

import "errors"

// Why a connection is not let in. Errors of this package wrap one of these.
var (
	// ErrNotLoopback: one of the two addresses is not of this host alone.
	ErrNotLoopback = errors.New("not a loopback connection")
	// ErrNoEntry: the kernel knows no socket with these addresses; it is closed.
	ErrNoEntry = errors.New("there is no socket at the other end")
	// ErrNotEstablished: it has one, but it is being closed or not open yet.
	ErrNotEstablished = errors.New("the socket at the other end is not established")
	// ErrOrphan: no process has the socket open any more (or yet).
	ErrOrphan = errors.New("no process holds the socket at the other end")
	// ErrOtherUser: another user's process holds it.
	ErrOtherUser = errors.New("the socket at the other end belongs to another user")
	// ErrGone: our own end was closed or reset before the peer was known, so that
	// the socket that was found may be a later one with the same addresses.
	ErrGone = errors.New("the connection ended before its peer was known")
	// ErrLookup: the kernel could not be asked.
	ErrLookup = errors.New("the owner of the other end cannot be looked up")
	// ErrTooMany: as many connections of this kind are open as may be.
	ErrTooMany = errors.New("too many connections")
	// ErrRestricted: the peer may read /health and /metrics and nothing else.
	ErrRestricted = errors.New("this user may read /health and /metrics only")
	// ErrNoToken: the token is missing or wrong.
	ErrNoToken = errors.New("the token is missing or wrong")
)

// reasons gives each refusal the word under which it is counted and logged.
var reasons = []struct {
	err  error
	word string
}{
	{ErrNotLoopback, "not_loopback"},
	{ErrNoEntry, "no_entry"},
	{ErrNotEstablished, "not_established"},
	{ErrOrphan, "orphan"},
	{ErrOtherUser, "other_user"},
	{ErrGone, "gone"},
	{ErrLookup, "lookup_failed"},
	{ErrTooMany, "too_many"},
	{ErrRestricted, "restricted"},
	{ErrNoToken, "no_token"},
}

// Reason returns the word for why a connection was refused, "other" when err is
// none of this package's. The words are few and fixed: fit for a metric's label.
func Reason(err error) string {
	for _, r := range reasons {
		if errors.Is(err, r.err) {
			return r.word
		}
	}
	return "other"
}
