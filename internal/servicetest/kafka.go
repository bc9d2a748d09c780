package servicetest

import (
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

// KafkaOptions is what a broker is like.
type KafkaOptions struct {
	Name      string        // of the image; "" = localhost/dspy-kafka:1
	Delay     time.Duration // until it listens
	Advertise string        // host and port by which clients come back to it; "" = 127.0.0.1:9092
}

// Kafka gives an engine a broker, and returns the name of its image. It listens on
// port 9092; its topics are in the volume /var/lib/kafka/data, and have one
// partition. What it acknowledged it has after kill -9. It is no cluster: nothing
// is replicated. Arguments of a container are more flags of kafka/main.go.
func Kafka(t testing.TB, e *dockertest.Engine, o KafkaOptions) string {
	t.Helper()
	if o.Name == "" {
		o.Name = "localhost/dspy-kafka:1"
	}
	if o.Advertise == "" {
		o.Advertise = "127.0.0.1:9092"
	}
	e.Load(t, o.Name, dockertest.ProgramImage(t, "internal/servicetest/kafka", v1.Config{
		Entrypoint:   []string{"/kafka", "-delay=" + o.Delay.String(), "-advertise=" + o.Advertise},
		Volumes:      map[string]struct{}{"/var/lib/kafka/data": {}},
		ExposedPorts: map[string]struct{}{"9092/tcp": {}},
	}))
	return o.Name
}
