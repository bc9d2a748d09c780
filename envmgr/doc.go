// Package envmgr starts the supporting services of a site (Redis, Kafka, Prometheus
// ...) as containers, in the order in which they need each other, and keeps them alive.
//
// A Definition says what a service is, a Set holds the definitions of a site and the
// order among them, and a Supervisor cares for them. What is to be done next for a
// service is decided by Next alone, a function of what is wanted (Want), of what is
// remembered (State), of what was seen (View) and of the time; it does nothing. The
// Supervisor carries out what Next says, one step per service at a time, and looks
// again whenever the engine tells of something, a probe has answered or a time has
// come.
//
// It owns the containers that carry its labels with its own name for this set of
// services (Supervisor.Options.Site), and their network. A container that docker
// compose, or a person, has made is adopted where its labels or its name say that it is
// the service: it is started, stopped and watched, never made anew and never removed.
// Volumes are made, and removed by nobody but a person; what an image wants to be a
// volume has one with a name, by which the next container of the service finds it.
//
// There is to be one Supervisor per site and engine, and nothing here sees to that: two
// that are told different things make each other's containers anew. env-manager names its
// site by the user, and holds a lock with its socket, of which a user has one.
//
// Nothing that matters is kept in memory alone: after a crash, of this process, the
// engine or the host, the containers themselves say what there is, and the same
// decisions follow. What is remembered beside that (how often a service has failed of
// late) is lost without harm. What is wanted is not remembered here: until Up or Down says
// it of a service, that one is watched, and neither started nor ended.
package envmgr
