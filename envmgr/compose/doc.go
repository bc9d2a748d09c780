// Package compose reads services from compose files, as the Compose Specification has
// them: several files that overlay each other, variables, profiles, includes.
//
// What a service may say that is not understood here is refused by its name, and never
// ignored: a container that lacks what its file asks for is worse than none. What has no
// meaning here, since the supervisor does it itself (restart, logging), is left out
// knowingly; the list is in keys.go.
//
// Volumes have the names that docker compose gives them, so that data are found again;
// networks have names of our own, since compose refuses one that it has not made.
package compose
