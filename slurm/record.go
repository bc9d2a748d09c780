package slurm

import (
	"strconv"
	"strings"
	"time"
)

// record is what the script of a job noted in the folder of the attempt (wrapper.sh):
//
//	start JOB.RESTART NODE TIME GPUS     GPUs as Slurm numbers them; "-" = none
//	fault WHAT                           setup, folder, command: the task was not begun
//	limit TIME                           its time limit struck, and SIGTERM was sent
//	exit JOB.RESTART CODE TIME TERM      when Slurm sent SIGTERM; "-" = it did not
//
// Times are seconds since 1970 with a fraction. A job that Slurm put back into the line
// starts again, and so does the record.
type record struct {
	Job     string // that claimed the attempt
	Node    string
	GPUs    string
	Started time.Time
	Fault   string
	Limit   time.Time
	Exited  bool
	Code    int
	Ended   time.Time
	Term    time.Time
}

// parseRecord reads the whole lines of a record; what it does not know it leaves out.
func parseRecord(text string) record {
	var r record
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break // being written
		}
		f := strings.Fields(line)
		switch {
		case len(f) == 5 && f[0] == "start":
			r = record{Node: f[2], Started: parseTime(f[3]), GPUs: strings.TrimPrefix(f[4], "-")}
			r.Job, _, _ = strings.Cut(f[1], ".")
		case len(f) == 2 && f[0] == "fault":
			r.Fault = f[1]
		case len(f) == 2 && f[0] == "limit":
			r.Limit = parseTime(f[1])
		case len(f) == 5 && f[0] == "exit":
			code, err := strconv.Atoi(f[2])
			if err != nil || code < 0 || code > 255 {
				continue
			}
			r.Exited, r.Code, r.Ended, r.Term = true, code, parseTime(f[3]), parseTime(f[4])
		}
	}
	return r
}

// parseTime returns zero for what is no time.
func parseTime(word string) time.Time {
	sec, frac, _ := strings.Cut(word, ".")
	s, err := strconv.ParseInt(sec, 10, 64)
	if err != nil || s <= 0 {
		return time.Time{}
	}
	ns, err := strconv.ParseInt((frac + "000000000")[:9], 10, 64)
	if err != nil || ns < 0 {
		ns = 0 // a date(1) without fractions
	}
	return time.Unix(s, ns)
}
