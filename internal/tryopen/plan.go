package tryopen

// Arg is the hidden first argument with which a binary becomes the child. Its main
// calls Main before anything else then.
const Arg = "try-open"

// TrialFile is how the names of files begin that the child makes to see whether that
// works. It removes them.
const TrialFile = ".try-open."

// Plan is what the child is to try.
type Plan struct {
	// Dir is the folder. A child that may write makes it.
	Dir string
	// Pointer is a file in it with the name of the database, if it has one; where there
	// is none the name is Default. Without a Default no database is opened: only the
	// folder and the small files in it are looked at.
	Pointer, Default string
	// Note is a file in it of which the content is brought back, if it can be read.
	Note string
	// Write: the database is going to be written; else nothing is changed.
	Write bool
}

// Report is what the child found out.
type Report struct {
	// Note is what the file of that name holds; nil = it is not there, or the child
	// did not get so far.
	Note []byte
	// Slowest is the step that took longest, as the parent saw it.
	Slowest Step
}

// line is what the child says, as JSON.
type line struct {
	Step  string `json:"step,omitempty"` // it begins now
	Note  []byte `json:"note,omitempty"`
	Errno int    `json:"errno,omitempty"` // why there are no locks
	Done  bool   `json:"done,omitempty"`
}
