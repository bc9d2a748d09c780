// Package api answers EnvManagerService: it shows a Supervisor of services to
// programs, and passes on to it what they ask for.
//
// It keeps nothing that matters: what is asked of it is either known to the Supervisor
// or asked of the engine there and then. No call holds up the Supervisor, however many
// there are and however slowly they read: each reads the latest snapshot, and a stream
// that is behind gets the newest one next and not all of those between.
//
// Errors are task.Errors, which the transport turns into codes.
package api
