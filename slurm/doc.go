// Package slurm runs attempts as jobs of a Slurm cluster, through its commands: sbatch,
// squeue, scancel and scontrol, of 22.05 and later, and sacct where there is a database of
// jobs. Backend is what internal/engine calls. Check and PreviewOf tell what job a task would
// become, without Slurm; Client.Cluster and Client.Test ask it.
//
// # What it owns
//
// The jobs that are named after its queue, and a folder for each attempt beside its
// output (taskfiles.Layout.JobDir), which has to be on a file system that the nodes see.
// No other job is touched.
//
// # How an attempt goes
//
// Its folder is written first: the script, what the script reads, and an intent with the
// time. Then sbatch is called. The script (wrapper.sh) makes the claim of the attempt with
// link(2) before it does anything else, notes start and end in the folder's record, and
// adds a word to one news file of the queue. That file is looked at four times a second;
// one squeue for all jobs, at most every two seconds, is the backstop, and tells what
// only Slurm knows: why a job waits, and who ended it.
//
// What sbatch gets is a plan (plan.go): the options that configuration, template and task ask
// for together, and wrapper.sh. A template's script is a file in the folder, which the job
// runs as the task's program; slurm/template makes it.
//
// A round comes four times a second and looks only at attempts of which something may be
// new (Backend.touch).
//
// # Guarantees
//
//   - An attempt works once. When sbatch's answer is in doubt (a time-out, our own death),
//     the job is looked for by its name until twice Slurm's MessageTimeout has passed; only
//     then is it submitted again. Should both run after all, the claim lets one work.
//   - A job that is gone is never taken for a success: only the record says so.
//   - What a user wrote reaches no script: arguments, environment and folder are in files
//     that the script reads, directives are checked against an alphabet. A template
//     changes nothing of that.
//   - A controller that does not answer delays and is named; it fails no task. What goes on
//     for hours is logged when it comes, when it changes, and every ten minutes (said.go).
//
// # After a crash
//
// The folders are the memory. The next Watch reads those of the active attempts, asks
// squeue once, and goes on where each stands.
package slurm
