package probe

import "time"

// Kind is how a service is asked.
type Kind string

// The kinds of probes.
const (
	HTTP      Kind = "http"      // GET answers 2xx or 3xx
	TCP       Kind = "tcp"       // a connection is accepted, and stays open
	Redis     Kind = "redis"     // PING answers PONG
	ZooKeeper Kind = "zookeeper" // srvr answers with a mode
	Kafka     Kind = "kafka"     // ApiVersions and Metadata answer, with a broker
	Exec      Kind = "exec"      // a command in the container ends with 0
	Health    Kind = "health"    // the container's own health check says healthy
	None      Kind = "none"      // nobody is asked: what runs is ready
)

// kindsInWords is for messages.
const kindsInWords = "http, tcp, redis, zookeeper, kafka, exec, health or none"

// A trait is what a kind needs, and what is taken when it is not said.
type trait struct {
	address bool // it connects to a port
	port    int  // where services of this kind listen; 0: must be said
	timeout time.Duration
}

var traits = map[Kind]trait{
	HTTP:      {address: true, port: 80, timeout: 2 * time.Second},
	TCP:       {address: true, timeout: 2 * time.Second},
	Redis:     {address: true, port: 6379, timeout: 2 * time.Second},
	ZooKeeper: {address: true, port: 2181, timeout: 2 * time.Second},
	Kafka:     {address: true, port: 9092, timeout: 2 * time.Second},
	// A process has to start in the container first; on a busy machine that alone
	// takes a second.
	Exec:   {timeout: 10 * time.Second},
	Health: {timeout: 5 * time.Second},
	None:   {},
}

// Dials says that a probe of this kind connects to a port.
func (k Kind) Dials() bool { return traits[k].address }
