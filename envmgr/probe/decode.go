package probe

import "errors"

// errNotThis is what a decoder returns for what is no answer of its protocol.
var errNotThis = errors.New("another protocol")

// readError is what a decoder that reads returns when reading failed, as against
// what was read.
type readError struct{ err error }

func (e *readError) Error() string { return "reading an answer: " + e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// judged makes of a decoder's error what is said to people.
func (p *peer) judged(detail string, err error, protocol string) (string, error) {
	var broken *readError
	switch {
	case errors.As(err, &broken):
		return "", p.lost(broken.err)
	case errors.Is(err, errNotThis):
		return "", p.foreign(protocol)
	}
	return detail, err
}
