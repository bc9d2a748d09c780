package cli

import (
	"context"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

func (s *session) servicesWhy(c *cli.Context, names []string) error {
	return s.withEnvManager(c, c.Bool("json"), func(ctx context.Context, em *envManager) error {
		list, err := statusOf(ctx, em, names)
		switch {
		case err != nil:
			return err
		case len(list) == 0:
			return task.Errorf(task.CodeUnavailable, "env-manager knows nothing of %s yet; it was started this moment, ask again", names[0])
		case c.Bool("json"):
			return writeJSON(s.out, serviceJSON(list[0]))
		}
		s.whyService(list[0])
		return nil
	})
}

// whyService prints the sentence, and the facts that people ask for next.
func (s *session) whyService(v *pb.ServiceStatus) {
	checks := v.GetHealthChecks()
	s.out.printf("%s\n\n", serviceSentence(v))
	s.field("status", s.out.paint(serviceColours[v.GetStatus()], v.GetStatus()))
	s.field("phase", checks[checkPhase])
	s.field("started", clock(startedAt(v)))
	s.field("ports", portList(v.GetPorts()))
	cpu, mem := s.usageOf(v.GetResourceUsage())
	s.field("cpu", cpu)
	s.field("memory", mem)
	s.field("probe", oneLine(checks[checkProbe]))
	s.field("ends", endsText(checks[checkEnds]))
	s.field("container", v.GetContainerId())
	s.field("adopted", oneLine(checks[checkAdopted]))
	if v.GetContainerId() != "" {
		s.field("more", Program+" services logs "+v.GetName())
	}
}

// phaseWords say what a phase means.
var phaseWords = map[string]string{
	"stopped":     "is stopped, and nobody wants it to run",
	"engine_away": "cannot be seen, since Docker does not answer",
	"waiting":     "waits for what it needs",
	"pulling":     "waits for its image",
	"creating":    "is being started",
	"starting":    "is being started",
	"probing":     "runs, and does not answer yet",
	"ready":       "is ready",
	"degraded":    "runs, and something is wrong with it",
	"backing_off": "has ended, and is about to be started again",
	"blocked":     "is kept from starting",
	"failed":      "has failed, and is not tried again until somebody asks for it",
	"stopping":    "is being ended",
	"done":        "has done its work, which was to be done once",
}

// serviceSentence says why a service is as it is.
func serviceSentence(v *pb.ServiceStatus) string {
	words, ok := phaseWords[v.GetHealthChecks()[checkPhase]]
	if !ok { // of a newer env-manager
		words = "is " + v.GetStatus()
	}
	text := v.GetName() + " " + words
	if reason := oneLine(v.GetHealthChecks()[checkReason]); reason != "" {
		text += ": " + reason
	}
	if !strings.ContainsAny(text[len(text)-1:], ".?!") {
		text += "."
	}
	return text
}
