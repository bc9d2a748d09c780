package doctor

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"time"
)

// userText names a user for people: "uid 1000 (ada)".
func userText(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return fmt.Sprintf("uid %d", uid)
	}
	return fmt.Sprintf("uid %d (%s)", uid, u.Username)
}

// cause is the innermost text of an error, without the paths that the sentence
// around it has already.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// span is a duration as people say it: "12s", "3m0s", "26h0m0s".
func span(d time.Duration) string { return d.Abs().Round(time.Second).String() }

// stamp is a point in time for people, in their zone.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") }
