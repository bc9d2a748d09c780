// Package process runs attempts as processes of this host, and holds the
// supervisor that starts them and outlives everybody who asks for it.
//
// # Two halves
//
// Backend is the daemon's half: it turns tasks into messages, reports into
// events, and files into results. It owns the connection and the files of an
// attempt (Layout) except its output.
//
// RunSupervisor is the other half, in a process of its own, one per user and
// host. It owns the processes: it starts them, waits for them, holds them to
// their time limits, ends them with all they started, bounds their output, and
// keeps how they ended until the queue has taken it over. It is started by
// whoever needs it first, by running the same binary again, and leaves when it
// has been idle for a while. The two speak supervisorpb over a Unix socket that
// only their user can reach; the first message agrees on a version, because a
// supervisor is often older than the daemon that comes to it.
//
// # Guarantees
//
//   - An attempt starts at most once. Before fork(2) its claim is in the queue's
//     journal, and a claim is never taken twice, whoever asks.
//   - What ended is reported until Forget. A journal holds it meanwhile.
//   - The end is reported when nothing is left of the attempt: not its process,
//     its process group, its session, nor what escaped them by forking twice.
//   - Leaving is not stopping. No end of a Backend or of a supervisor, wanted or
//     not, ends a task.
//
// # How it finds what a task started
//
// Where cgroups (v2) are delegated each running attempt has one of a reused set.
// Elsewhere the supervisor, as a subreaper, becomes the parent of orphans, and
// the marker in the environment (DSPY_TASK_UID), the session, the process group
// and the chain of parents say whose they are. Only a process that leaves its
// session, clears its environment, and loses its parents, all three, can escape
// that way, and only where there are no cgroups. What forks faster than one can
// look is ended by its process group. In the common case nothing is left, and one
// system call tells. Whether cgroups do all that is needed is tried out when the
// supervisor starts; the log says what is missing.
//
// # After a crash
//
// The daemon killed: the supervisor notices the closed connection and nothing
// else changes. The next Backend says hello and hears of every attempt anew.
//
// The supervisor killed: tasks go on, since they write to files and belong to
// sessions of their own. Watch starts another supervisor, which reads the
// journals. An attempt that has a process (same pid, start time and boot) is
// followed with a pidfd; how it ends is asked of the kernel where that tells
// others than parents (Linux 6.15, or while it is a zombie), else it has
// vanished. An attempt that was claimed, and of whose start nothing is written,
// is looked for by its marker. Those that were only queued were claimed by
// nobody, and are handed over again.
//
// The journal lost as well: Hello says what the queue has on record (handle.go),
// and what was started and never reported is found by its marker (adopt.go).
//
// The supervisor hung: it answers no ping for a while. Down says so, and nothing
// is handed over until it does again (heartbeat.go).
//
// The machine restarted: journals bear the id of the boot. The ends in the one
// of an earlier boot are told, and its other attempts have vanished (former.go).
// Nothing here is synced to disk for every record: what a loss of power takes
// from the journals are words about processes that it took as well.
//
// # On another host
//
// A handle says where its pid means something (machine, boot and pid namespace, see
// internal/host). An attempt of another machine, or in another container, is followed
// by what its supervisor there writes into the shared spool (foreign.go, distant.go),
// which is asked by files to end it (requests.go), and it is never begun here. What was
// placed, and may wait in the line of a supervisor elsewhere, begins here only when that
// has given it back (inherited.go, handed.go). An owner that was frozen, and followed by
// another one meanwhile, hands over what is not taken any more (late.go). Supervisors
// show in the spool that they live (card.go). docs/adr/0019 says why all that is enough.
//
// # When something does not answer, or is full
//
// Under the supervisor's mutex no file of a queue is touched. Each queue has a
// clerk for that, and attempts are started by runners, of which there are a few
// for each queue and more when some hang: a file server that does not answer
// holds up the tasks that need it. However many tasks run, one thread waits for
// all whose runners are needed elsewhere. All threads that are needed as a rule are
// there before the first task, which may leave its user no more of them (spare.go).
//
// A journal that cannot be written keeps its records until it can. Till then no
// attempt of its queue starts. Stop signals and reports of ends do wait for their
// records, but only for a moment: a task that has to end is ended.
//
// A journal that is removed under its supervisor is made again (restore.go). The
// environment of a process that the kernel does not show is waited for once, by
// nobody who is needed (environ.go).
//
// A result that cannot be read for a reason that may pass holds back the end of
// its attempt for some minutes. Out of memory is said only where the attempt's
// own cgroup counted it.
//
// # Reading the source
//
// claims.go and runner.go (an attempt from claim to end), ender.go and groups.go
// (how it is ended), write.go and clerk.go (what waits for a file system),
// recover.go and adopt.go (after a crash), lookout.go (what goes on elsewhere),
// litter.go and sweepfiles.go (what is cleared away), journal.go, watch.go,
// receive.go, unread.go and changes.go.
package process
