package servicetest

import (
	"maps"
	"testing"
	"time"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

// Names of the nine services of a Stack.
const (
	Redis      = "redis"
	RedDB      = "reddb"
	ZooKeeper  = "zookeeper"
	Broker     = "kafka"
	Ollama     = "ollama"
	Prometheus = "prometheus"
	NodeA      = "infermesh-node-a"
	NodeB      = "infermesh-node-b"
	Router     = "infermesh-router"
)

// stack is the images of the nine, as they are pulled.
var stack = map[string]string{
	Redis:      "redis:7-alpine",
	RedDB:      "dspy-lightweight:latest",
	ZooKeeper:  "confluentinc/cp-zookeeper:7.5.0",
	Broker:     "confluentinc/cp-kafka:7.5.0",
	Ollama:     "ollama/ollama:latest",
	Prometheus: "prom/prometheus:latest",
	NodeA:      "official-infermesh:latest",
	NodeB:      "official-infermesh:latest",
	Router:     "official-infermesh:latest",
}

// StackOptions is how a Stack differs from the usual one.
type StackOptions struct {
	Images  map[string]string // service -> the name of its image, where it is to be another
	NoDelay bool              // what is not real starts at once
}

// Stack gives an engine the images of the nine services, and returns the name of
// each by that of its service. Redis, ZooKeeper and Prometheus are real. Kafka
// takes 2.5 s to start, Ollama 1 s, a node 0.5 s, RedDB 0.3 s; and 0.3 s the
// router, which is the image of the nodes with MESH_ROLE=router. The broker is
// advertised as 127.0.0.1:9092.
func Stack(t testing.TB, e *dockertest.Engine, o StackOptions) map[string]string {
	t.Helper()
	images := maps.Clone(stack)
	maps.Copy(images, o.Images)
	delay := func(d time.Duration) time.Duration {
		if o.NoDelay {
			return 0
		}
		return d
	}
	reals := []string{Redis, ZooKeeper, Prometheus}
	archives(t, reals...) // together they take less time
	for _, name := range reals {
		e.Tag(t, Real(t, e, name), images[name])
	}
	Kafka(t, e, KafkaOptions{Name: images[Broker], Delay: delay(2500 * time.Millisecond)})
	StandIn(t, e, images[RedDB], StandInOptions{Delay: delay(300 * time.Millisecond)})
	StandIn(t, e, images[Ollama], StandInOptions{Delay: delay(time.Second), HTTP: ":11434"})
	// Usually one image, which need not be loaded three times.
	for image := range map[string]bool{images[NodeA]: true, images[NodeB]: true, images[Router]: true} {
		StandIn(t, e, image, StandInOptions{
			Delay:   delay(500 * time.Millisecond),
			DelayIf: map[string]time.Duration{"MESH_ROLE=router": delay(300 * time.Millisecond)},
			HTTP:    ":9000",
		})
	}
	return images
}
