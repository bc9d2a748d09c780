package probe

import (
	"context"
	"time"
)

// Run asks once. It returns at the spec's timeout at the latest, and at once when ctx
// ends.
func Run(ctx context.Context, s Spec, t Target) Result {
	began := time.Now()
	detail, err := ask(ctx, s, t)
	return resultOf(detail, err, time.Since(began))
}

// ask returns a sentence about a service that is ready, or an error.
func ask(ctx context.Context, s Spec, t Target) (string, error) {
	if err := s.Validate(); err != nil {
		return "", err
	}
	if s.Kind == None {
		return "is not probed", nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.timeout(), &timeoutError{s.timeout()})
	defer cancel()
	if ctx.Err() != nil {
		return "", ended(ctx, "no answer")
	}
	switch s.Kind {
	case Exec:
		return askExec(ctx, s, t)
	case Health:
		return askHealth(ctx, t)
	default:
		return askPort(ctx, s, t)
	}
}

// askPort asks what listens at the spec's port.
func askPort(ctx context.Context, s Spec, t Target) (string, error) {
	addr, err := t.addr(s)
	if err != nil {
		return "", err
	}
	p, err := dial(ctx, addr, t.Dial)
	if err != nil {
		return "", err
	}
	defer p.hangUp()
	switch s.Kind {
	case HTTP:
		return askHTTP(p, s)
	case Redis:
		return askRedis(p)
	case ZooKeeper:
		return askZooKeeper(p)
	case Kafka:
		return askKafka(p)
	default:
		return askTCP(p, t.hold(s))
	}
}
