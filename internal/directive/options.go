package directive

// arity is whether an option takes a value.
type arity uint8

const (
	never    arity = iota
	perhaps        // only behind "="
	required       // behind "=", or as the next word
)

// treatment is what becomes of an option.
type treatment uint8

const (
	// use: it goes to Slurm as it is.
	use treatment = iota
	// ours: the scheduler says it itself.
	ours
	// breaks: a job with it would not be one, or not be found.
	breaks
)

func (t treatment) why() string {
	if t == breaks {
		return "would make something of the job that the scheduler does not find, or not wait for"
	}
	return "is set by the scheduler, which finds the job by it"
}

// option is one of sbatch's.
type option struct {
	short byte // 0 = none
	takes arity
	use   treatment
	// about is what several options are about, of which the strongest voice counts; "" = itself.
	about string
}

// What options are about.
const (
	aboutGPUs   = "gpus"
	aboutCPUs   = "cpus"
	aboutMemory = "memory"
	aboutShare  = "share"
)

// options are those of sbatch, of 22.05 to 25.11 (its --help and its manual page). One
// that is not here is a plugin's, or of a later release, and is passed on.
var options = map[string]option{
	"account": {'A', required, use, ""}, "acctg-freq": {0, required, use, ""}, "array": {'a', required, breaks, ""},
	"batch": {0, required, use, ""}, "bb": {0, required, use, ""}, "bbf": {0, required, use, ""}, "begin": {'b', required, use, ""},
	"chdir": {'D', required, ours, ""}, "cluster-constraint": {0, required, breaks, ""}, "clusters": {'M', required, breaks, ""},
	"comment": {0, required, ours, ""}, "consolidate-segments": {0, never, use, ""}, "constraint": {'C', required, use, ""},
	"container": {0, required, use, ""}, "container-id": {0, required, use, ""}, "contiguous": {0, never, use, ""},
	"core-spec": {'S', required, use, ""}, "cores-per-socket": {0, required, use, ""}, "cpu-freq": {0, required, use, ""},
	"cpus-per-gpu": {0, required, use, aboutCPUs}, "cpus-per-task": {'c', required, use, aboutCPUs},
	"deadline": {0, required, use, ""}, "delay-boot": {0, required, use, ""}, "dependency": {'d', required, breaks, ""},
	"distribution": {'m', required, use, ""}, "error": {'e', required, ours, ""}, "exclude": {'x', required, use, ""},
	"exclusive": {0, perhaps, use, aboutShare}, "export": {0, perhaps, ours, ""}, "export-file": {0, required, ours, ""},
	"extra": {0, required, use, ""}, "extra-node-info": {'B', required, use, ""}, "get-user-env": {0, perhaps, use, ""},
	"gid": {0, required, breaks, ""}, "gpu-bind": {0, required, use, ""}, "gpu-freq": {0, required, use, ""},
	"gpus": {'G', required, use, aboutGPUs}, "gpus-per-node": {0, required, use, aboutGPUs}, "gpus-per-socket": {0, required, use, aboutGPUs},
	"gpus-per-task": {0, required, use, aboutGPUs}, "gres": {0, required, use, aboutGPUs}, "gres-flags": {0, required, use, ""},
	"help": {'h', never, breaks, ""}, "hint": {0, required, use, ""}, "hold": {'H', never, use, ""}, "ignore-pbs": {0, never, ours, ""},
	"input": {'i', required, ours, ""}, "job-name": {'J', required, ours, ""}, "kill-on-invalid-dep": {0, required, use, ""},
	"licenses": {'L', required, use, ""}, "mail-type": {0, required, use, ""}, "mail-user": {0, required, use, ""},
	"mcs-label": {0, required, use, ""}, "mem": {0, required, use, aboutMemory}, "mem-bind": {0, required, use, ""},
	"mem-per-cpu": {0, required, use, aboutMemory}, "mem-per-gpu": {0, required, use, aboutMemory}, "mincpus": {0, required, use, ""},
	"network": {0, required, use, ""}, "nice": {0, perhaps, use, ""}, "no-kill": {'k', perhaps, use, ""}, "no-requeue": {0, never, use, "requeue"},
	"nodefile": {'F', required, use, ""}, "nodelist": {'w', required, use, ""}, "nodes": {'N', required, use, ""},
	"ntasks": {'n', required, use, ""}, "ntasks-per-core": {0, required, use, ""}, "ntasks-per-gpu": {0, required, use, ""},
	"ntasks-per-node": {0, required, use, ""}, "ntasks-per-socket": {0, required, use, ""}, "oom-kill-step": {0, perhaps, use, ""},
	"open-mode": {0, required, ours, ""}, "output": {'o', required, ours, ""}, "overcommit": {'O', never, use, ""},
	"oversubscribe": {'s', never, use, aboutShare}, "parsable": {0, never, ours, ""}, "partition": {'p', required, use, ""},
	"power": {0, required, use, ""}, "prefer": {0, required, use, ""}, "priority": {0, required, use, ""}, "profile": {0, required, use, ""},
	"propagate": {0, perhaps, use, ""}, "qos": {'q', required, use, ""}, "quiet": {'Q', never, ours, ""}, "reboot": {0, never, use, ""},
	"requeue": {0, never, use, "requeue"}, "reservation": {0, required, use, ""}, "resv-ports": {0, perhaps, use, ""},
	"segment": {0, required, use, ""}, "signal": {0, required, use, ""}, "sockets-per-node": {0, required, use, ""},
	"spread-job": {0, never, use, ""}, "spread-segments": {0, never, use, ""}, "stepmgr": {0, never, use, ""}, "switches": {0, required, use, ""},
	"test-only": {0, never, breaks, ""}, "thread-spec": {0, required, use, ""}, "threads-per-core": {0, required, use, ""},
	"time": {'t', required, use, ""}, "time-min": {0, required, use, ""}, "tmp": {0, required, use, ""}, "tres-bind": {0, required, use, ""},
	"tres-per-task": {0, required, use, ""}, "uid": {0, required, breaks, ""}, "usage": {0, never, breaks, ""},
	"use-min-nodes": {0, never, use, ""}, "verbose": {'v', never, ours, ""}, "version": {'V', never, breaks, ""}, "wait": {'W', never, breaks, ""},
	"wait-all-nodes": {0, required, use, ""}, "wckey": {0, required, use, ""}, "wrap": {0, perhaps, breaks, ""},
}

// shorts are the options by their letter.
var shorts = func() map[byte]string {
	out := map[byte]string{}
	for name, o := range options {
		if o.short != 0 {
			out[o.short] = name
		}
	}
	return out
}()
