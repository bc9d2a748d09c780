package dockertest

import (
	"testing"

	"github.com/docker/docker/api/types/container"
)

// Containers returns the ids of all containers that the engine has, those that have
// ended included.
func (e *Engine) Containers(t testing.TB) (ids []string) {
	t.Helper()
	all, err := e.Client(t).ContainerList(t.Context(), container.ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		ids = append(ids, c.ID)
	}
	return ids
}

// KillContainer ends a container behind the product's back, as kill -9 does.
func (e *Engine) KillContainer(t testing.TB, id string) {
	t.Helper()
	if err := e.Client(t).ContainerKill(t.Context(), id, "KILL"); err != nil {
		t.Fatal(err)
	}
}
