package app

import (
	"context"
	"errors"

	"github.com/dspy-agent/dspy-agent/envmgr"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
)

// DefinedServices are the services of a configuration, whether or not anything runs.
type DefinedServices struct{ set envmgr.Set }

// DefineServices reads the configuration and the compose files that it names, and changes
// nothing.
func DefineServices(ctx context.Context, c config.Config, environ []string) (DefinedServices, error) {
	set, err := serviceSet(ctx, c, environ, prometheusFile(c))
	return DefinedServices{set}, err
}

// Names returns all names; what is needed comes before who needs it.
func (d DefinedServices) Names() []string { return d.set.Names() }

// Known returns an error with CodeNotFound that names the first that is none, and those
// that are.
func (d DefinedServices) Known(names []string) error {
	err := d.set.Known(names)
	if errors.Is(err, envmgr.ErrUnknownService) {
		return task.Errorf(task.CodeNotFound, "%w", err)
	}
	return err
}

// Image returns the image of a service; false if there is no such service.
func (d DefinedServices) Image(name string) (string, bool) {
	def, ok := d.set.Get(name)
	return def.Image, ok
}

// Users returns the services that need one of these, directly or not.
func (d DefinedServices) Users(names []string) []string { return d.set.UsersOfAll(names) }
