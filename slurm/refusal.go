package slurm

import "strings"

// RefusedError is sbatch's answer that there is no job, and why.
type RefusedError struct {
	Text string // Slurm's words
	// Later says that the same may be accepted when something else has ended.
	Later bool
}

// Error returns Slurm's words, and what can be done.
func (r *RefusedError) Error() string { return "slurm refused the job: " + r.Text }

// The texts of slurm_strerror (slurm_errno.c) that are an answer of the controller or of
// sbatch itself; true = it may be otherwise later. What is not here is no answer: a
// connection that broke, a controller that is away, or a text of a later release. Then
// the job is looked for.
var refusals = map[string]bool{
	"Invalid partition name specified":                                                          false,
	"Invalid account or account/partition combination specified":                                false,
	"Invalid qos specification":                                                                 false,
	"Invalid qos":                                                                               false,
	"Invalid feature specification":                                                             false,
	"Invalid generic resource (gres) specification":                                             false,
	"Invalid Trackable RESource (TRES) specification":                                           false,
	"Invalid license specification":                                                             false,
	"Invalid node name specified":                                                               false,
	"Invalid reservation specification":                                                         false,
	"Requested reservation is invalid":                                                          false,
	"Requested node configuration is not available":                                             false,
	"Requested time limit is invalid (missing or exceeds some limit)":                           false,
	"Requested partition configuration not available now":                                       true,
	"Required partition not available (inactive or drain)":                                      true,
	"Required node not available (down, drained or reserved)":                                   true,
	"Memory required by task is not available":                                                  false,
	"More processors requested than permitted":                                                  false,
	"Node count specification invalid":                                                          false,
	"CPU count specification invalid":                                                           false,
	"CPU count per node can not be satisfied":                                                   false,
	"User's group not permitted to use this partition":                                          false,
	"Access/permission denied":                                                                  false,
	"Job dependency problem":                                                                    false,
	"Pathname of a file, directory or other parameter too long":                                 false,
	"Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)":     true,
	"Job violates accounting/QOS policy (job submit limit, the user's size and/or time limits)": true,
	"Slurm temporarily unable to accept job, sleeping and retrying":                             true,
	"Resource temporarily unavailable":                                                          true,
	"Unspecified error":                                                                         false, // of a site's own plugin, which said more before
	"Zero nodes requested":                                                                      false,
	"Job script is too large":                                                                   false,
	"Job size specification needs to be provided":                                               false,
	"GRES specification invalid":                                                                false,
	"Requested operation not supported on this system":                                          false,
	"Requested GRES option unsupported by configured SelectType plugin":                         false,
	"Invalid wckey specification":                                                               false,
	"This account is not permitted to use this partition":                                       false,
	"This qos is not permitted to use this partition":                                           false,
	"User's account not permitted to use this partition":                                        false,
	"Invalid job array specification":                                                           false,
	"Job and/or node not eligible for requested operation":                                      false,
	"Requested MCS value is invalid":                                                            false,
	"The partition requires that a reservation be specified":                                    false,
}

// refusalIn finds the answer in what sbatch printed to stderr; nil when there is none.
func refusalIn(stderr string) *RefusedError {
	for line := range strings.Lines(stderr) {
		_, text, ok := strings.Cut(line, "failed: ")
		if !ok {
			continue
		}
		text = strings.TrimSpace(text)
		if later, known := refusals[text]; known {
			return &RefusedError{Text: explained(stderr, text), Later: later}
		}
	}
	// sbatch's own checks, before it calls anybody.
	for _, before := range []string{"sbatch: error: Invalid ", "sbatch: unrecognized option ", "sbatch: invalid option ", "sbatch: fatal: Invalid "} {
		if strings.HasPrefix(stderr, before) {
			return &RefusedError{Text: strings.TrimPrefix(lastLine(stderr), "sbatch: ")}
		}
	}
	return nil
}

// explained puts the words that a site's plugin printed before Slurm's own.
func explained(stderr, text string) string {
	var said []string
	for line := range strings.Lines(stderr) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "sbatch: error: ")
		if line != "" && !strings.Contains(line, text) {
			said = append(said, line)
		}
	}
	return strings.Join(append(said, text), "; ")
}
