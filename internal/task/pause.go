package task

// Pause is that the waiting tasks of a class are kept waiting: since when, by
// whom, and why.
type Pause struct {
	At     Instant
	By     string // "uid 1000 (alice)"
	Reason string // for people; may be empty
}

// MaxReason is how long the reason of a Pause may be, in bytes.
const MaxReason = 1000

// Check refuses a reason that is too long to be kept.
func (p Pause) Check() error {
	if len(p.Reason) > MaxReason {
		return Errorf(CodeInvalid, "the reason is %d bytes long; %d are kept: say it in fewer words", len(p.Reason), MaxReason)
	}
	return nil
}

// String is what follows "is paused": "since 2006-01-02 15:04:05 UTC by uid 1000
// (alice): the disk is being moved".
func (p Pause) String() string {
	text := "since nobody knows when"
	if p.At != 0 {
		text = "since " + p.At.Time().Format("2006-01-02 15:04:05 MST")
	}
	if p.By != "" {
		text += " by " + p.By
	}
	if p.Reason != "" {
		text += ": " + p.Reason
	}
	return text
}

// Of says that the class is paused, and how to end that.
func (p Pause) Of(class string) string {
	return "class " + class + " is paused " + p.String() + "; resume with: dspy-agent resume " + class
}
