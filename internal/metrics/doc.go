// Package metrics counts and measures what the orchestrator does, for dashboards
// and alerts.
//
// It owns the registry of the process, the names of all metrics (docs/metrics.md
// is written from it) and the choice of labels. Its parts are told what happens:
// the queue tells of each commit, the engine how long tasks waited and ran, the
// servers which calls they answered. What is a matter of the present, such as how
// many tasks wait, is asked for when somebody looks.
//
// It guarantees:
//   - The numbers that gRPC's GetMetrics and GET /queue/status tell are those of
//     GET /metrics: all come from one table (numbers.go).
//   - A counter never goes backwards while the process lives. It counts commits,
//     so it counts nothing that is not on disk, and it counts what retention has
//     removed since.
//   - No label has a value that comes from a task, a client or a file: what is not
//     a configured class, a known state, or a call that we offer, is "other".
//   - Telling it something costs less than a microsecond for most, and waits for
//     nobody.
//
// Nothing is stored: counters and histograms begin at zero with the process,
// which those who read them (rate, increase) expect of a restart. Gauges are right
// from the first moment, since they are read from the queue.
package metrics
