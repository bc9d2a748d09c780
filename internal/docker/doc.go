// Package docker speaks to a container engine: Docker 20.10 to 29, or Podman's
// socket. It is the only package that imports github.com/docker/docker, which is
// frozen, so that moving to its successor touches this package alone (docs/adr/0022).
//
// Client has one method per thing that is asked of an engine, in the words of this
// project. Errors are sorted into sentinels (errors.go), by status where the engine
// gives one, and by its text only where it gives nothing else (texts.go). Follow
// keeps one stream of events, and says when to look at everything anew.
//
// A Client owns connections and nothing else. It remembers nothing that a crash
// could lose; what was begun at an engine goes on there.
package docker
