package doctor

import (
	"context"
	"sync"

	"github.com/dspy-agent/dspy-agent/internal/config"
)

// check is an entry of the table.
type check struct {
	name    string // stable: scripts look for it
	about   string // what is looked at
	problem string // when it is one; "" = never
	warning string
	note    string
	asks    string // who could hang, for when it does
	after   string // the check that asks first what this one needs as well; "" = none
	run     func(context.Context, *examination) []Finding
}

// What a check waits for.
const (
	asksSettings = "the file system of the workspace, or of the configuration file"
	asksQueue    = "the file system of the queue"
	asksHome     = "the file system of the folder with the certificate and the token"
	asksPrograms = "the file system of the programs"
	asksRuntime  = "the file system of the runtime directory"
	asksDaemon   = "the daemon, or the file system of the queue"
	asksKernel   = "the kernel"
)

// Names that other code of this package knows.
const (
	nameConfiguration = "configuration"
	nameOwner         = "owner"
)

// checks is the table of all checks, in the order in which findings are shown.
var checks = []check{
	{
		name: nameConfiguration, about: "the configuration file and the variables", asks: asksSettings, run: checkConfiguration,
		problem: "something in it is unknown, cannot be read or has no effect", warning: "a variable is set that nothing reads, or more is promised to tasks than the machine has",
		note: "a variable is set for a part of a later release",
	},
	{
		name: nameOwner, about: "who has the queue open", asks: asksQueue, run: needsConfig(checkOwner), after: nameConfiguration,
		problem: "the file that says so is damaged, and a process has the queue open", warning: "it is open on another host, or the file is damaged", note: "who had it open is dead",
	},
	{
		name: "daemon", about: "whether the daemon runs, answers and accepts tasks", asks: asksDaemon, run: needsConfig(checkDaemon), after: nameOwner,
		problem: "it is stopped, does not answer, or does not accept tasks", note: "none runs",
	},
	{
		name: "parts", about: "what the daemon says about its parts", asks: asksDaemon, run: needsConfig(checkParts), after: nameOwner,
		problem: "one is down", warning: "one is damaged",
	},
	{
		name: "database", about: "the queue's database, where no daemon has it open: every page and record of one up to 64 MiB, else whether it can be opened", asks: asksQueue, run: needsConfig(checkDatabase), after: nameOwner,
		problem: "it is damaged, or cannot be opened",
	},
	{
		name: "versions", about: "the builds of the programs, the daemon and the supervisor", asks: asksPrograms, run: needsConfig(checkVersions), after: nameOwner,
		problem: "the daemon's program is missing or does not run", warning: "program and daemon differ", note: "the supervisor is older, which is fine",
	},
	{
		name: "workspace", about: "the folders of the queue and of the log, whose they are, and whether they can be written", asks: asksQueue, run: needsConfig(checkWorkspace), after: nameConfiguration,
		problem: "there is no such folder, or it cannot be written", warning: "it is another user's, others can write it, or its file server's clock differs",
	},
	{
		name: "drop_folder", about: "whether the folders for files of tasks and of outcomes can be used", asks: asksQueue, run: needsConfig(checkDropFolder), after: nameOwner,
		problem: "others can write to one of them, or it is no folder of the user's", note: "files lie there that cannot be tasks",
	},
	{
		name: "file_system", about: "what the queue's folder is on, and whether locks and mapped memory work there", asks: asksQueue, run: needsConfig(checkFileSystem), after: nameConfiguration,
		problem: "it is read-only, or locks or mapped memory do not work", warning: "it hangs on another program (FUSE, SMB ...) or is in memory (tmpfs)", note: "hosts share it (NFS, Lustre ...), or it is a container's own (overlay)",
	},
	{
		name: "space", about: "room and files left for the queue, and the quota", asks: asksQueue, run: needsConfig(checkSpace), after: nameConfiguration,
		problem: "less than 100 MiB or 100 files are left", warning: "less than 1 GiB or 10,000 files are left",
	},
	{
		name: "runtime_dir", about: "the directory of the sockets", asks: asksRuntime, run: needsConfig(checkRuntimeDir), after: nameOwner,
		problem: "it is not ours alone", warning: "XDG_RUNTIME_DIR names one that is not there", note: "the daemon that runs uses another one",
	},
	{
		name: "socket", about: "the daemon's socket", asks: asksRuntime, run: needsConfig(checkSocket), after: nameOwner,
		problem: "its path is too long, something else has its name, or it is not ours", warning: "the daemon runs and its socket is gone", note: "a dead daemon left it",
	},
	{
		name: "supervisor", about: "the process that starts tasks and waits for them", asks: asksRuntime, run: needsConfig(checkSupervisor), after: nameOwner,
		problem: "it is stopped, or cannot be reached", note: "none runs, and one is started when it is needed",
	},
	{
		name: "ports", about: "the TCP addresses for gRPC and HTTP, and who listens there", asks: asksQueue, run: needsConfig(checkPorts), after: nameOwner,
		problem: "the address cannot be used, or somebody else listens where the daemon should", warning: "the port is held, and the daemon has moved or will", note: "commands call another address than the socket",
	},
	{
		name: "access", about: "certificate, key and token for callers of other hosts: modes, owner, end", asks: asksHome, run: needsConfig(checkAccess), after: nameConfiguration,
		problem: "one is open to others, damaged or has ended", warning: "the certificate ends soon, or one is there without the other",
	},
	{
		name: "login", about: "whether what runs survives a logout (linger, KillUserProcesses)", asks: asksKernel, run: checkLogin,
		problem: "the system ends everything of the user at logout", note: "only a systemd user unit would end",
	},
	{
		name: "clock", about: "the clock: never set, behind the queue, set since the daemon began, synchronised", asks: asksQueue, run: needsConfig(checkClock), after: nameOwner,
		problem: "it was never set, or is behind the last change of the queue", note: "it was set since, or nothing keeps it right",
	},
	{
		name: "open_files", about: "how many files a process may have open (RLIMIT_NOFILE)", asks: asksKernel, run: checkOpenFiles,
		problem: "fewer than 256", warning: "fewer than 1,024",
	},
	{
		name: "processes", about: "how many processes the user and the cgroup may have (RLIMIT_NPROC, pids.max)", asks: asksKernel, run: checkProcesses,
		problem: "fewer than 16 are left", warning: "fewer than 100 are left",
	},
	{
		name: "memory", about: "the memory for tasks: the machine's, or the cgroup's limit (memory.max)", asks: asksKernel, run: checkMemory,
		warning: "less than 256 MiB", note: "the cgroup allows less than the machine has",
	},
	{
		name: "cpus", about: "the CPUs for tasks: the machine's, or the cgroup's quota (cpu.max) and the affinity", asks: asksKernel, run: checkCPUs,
		note: "fewer than the machine has",
	},
	{
		name: "kernel", about: "what the product uses of the kernel: pidfds, and ends of processes that are not our children", asks: asksKernel, run: checkKernel,
		warning: "there are no pidfds", note: "the end of what outlives a killed supervisor is not told",
	},
	{
		name: "cgroup", about: "whether tasks can have a cgroup each (cgroup v2, delegated)", asks: asksKernel, run: needsConfig(checkCgroup), after: nameOwner,
		note: "they cannot, so that a program which hides can outlive its task",
	},
	{
		name: "docker", about: "a Docker or Podman for tasks with an image", asks: "the container engine", run: needsConfig(checkDocker), after: nameConfiguration,
		warning: "it is too old, or DOCKER_HOST is no address", note: "there is none, it may not be used, or it gives no GPUs to containers where there are some",
	},
	{
		name: "slurm", about: "a Slurm cluster for gpu_slurm and other classes that may use it", asks: "Slurm's controller", run: checkSlurm,
		warning: "its controller does not answer", note: "it is not here",
	},
	{
		name: "gpu", about: "NVIDIA's driver, and the program that reads it", asks: asksKernel, run: checkGPU,
		warning: "the driver is here and nothing to read it", note: "the driver is not here, or read by nvidia-smi only",
	},
}

// needsConfig makes a check of one that wants the configuration. Without a usable
// one there is nothing to look at, and checkConfiguration says why.
func needsConfig(run func(context.Context, *examination, config.Config) []Finding) func(context.Context, *examination) []Finding {
	return func(ctx context.Context, x *examination) []Finding {
		l := x.loaded()
		if !l.Usable {
			return nil
		}
		return run(ctx, x, l.Config)
	}
}

// Examine makes all checks at once and calls tell with what each has found, as soon
// as it has; one call at a time. It returns when all have ended, which may be never:
// see Limit.
func Examine(ctx context.Context, p Patient, tell func(name string, found []Finding)) {
	x := newExamination(ctx, p)
	var mu sync.Mutex // tell is called by one at a time
	var all sync.WaitGroup
	for _, c := range checks {
		all.Go(func() {
			found := c.within(ctx, x)
			mu.Lock()
			defer mu.Unlock()
			tell(c.name, found)
		})
	}
	all.Wait()
}

// within makes a check with a time-out of its own.
func (c check) within(ctx context.Context, x *examination) []Finding {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	found := c.run(ctx, x)
	for i := range found {
		found[i].Name = c.name
	}
	return found
}

// Check describes a check, for the documentation.
type Check struct {
	Name, About string
	// When it has a finding of that status; "" = never.
	Problem, Warning, Note string
}

// Checks describes all checks, in the order in which their findings are shown.
func Checks() []Check {
	var out []Check
	for _, c := range checks {
		out = append(out, Check{Name: c.name, About: c.about, Problem: c.problem, Warning: c.warning, Note: c.note})
	}
	return out
}
