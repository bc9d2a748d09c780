package envmgr

import (
	"github.com/dspy-agent/dspy-agent/envmgr/probe"
)

// Builtin are the services that are there unless a site says otherwise. owner is the
// "uid:gid" that Prometheus runs as; prometheusConfig the file on this host that it
// reads.
func Builtin(owner, prometheusConfig string) []Definition {
	return []Definition{
		{
			Name: "redis", Image: "redis:7-alpine", Required: true,
			Ports: loopback(6379, 6379), Volumes: volume("redis_data", "/data"),
			Ready: probe.Spec{Kind: probe.Redis, Port: 6379},
		},
		{
			Name: "reddb", Image: "dspy-lightweight:latest", Required: true,
			Env:   []string{"REDDB_DATA_DIR=/data", "REDDB_HOST=0.0.0.0", "REDDB_PORT=8080", "REDDB_NAMESPACE=dspy"},
			Ports: loopback(8082, 8080), Volumes: volume("reddb_data", "/data"),
			Ready: probe.Spec{Kind: probe.HTTP, Port: 8080, Path: "/health"},
		},
		{
			Name: "zookeeper", Image: "confluentinc/cp-zookeeper:7.5.0",
			Env:   []string{"ZOOKEEPER_CLIENT_PORT=2181", "ZOOKEEPER_TICK_TIME=2000"},
			Ports: loopback(2181, 2181), Volumes: append(volume("zookeeper_data", "/var/lib/zookeeper/data"), volume("zookeeper_log", "/var/lib/zookeeper/log")...),
			Ready: probe.Spec{Kind: probe.ZooKeeper, Port: 2181},
		},
		kafka(),
		{
			Name: "ollama", Image: "ollama/ollama:latest", Env: []string{"OLLAMA_HOST=0.0.0.0:11434"},
			Ports: loopback(11435, 11434), Volumes: volume("ollama_data", "/root/.ollama"),
			Ready: probe.Spec{Kind: probe.HTTP, Port: 11434, Path: "/api/tags"}, Limits: Limits{StartTimeout: slow},
		},
		{
			// On the host's network, since what it scrapes listens on loopback only; as the owner, whom our
			// daemons let in.
			Name: "prometheus", Image: "prom/prometheus:latest", Host: true, User: owner,
			Command: []string{
				"--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus", "--web.listen-address=127.0.0.1:9090",
			},
			Volumes: append(volume("prometheus_data", "/prometheus"), Volume{Source: prometheusConfig, Target: "/etc/prometheus/prometheus.yml", ReadOnly: true}),
			Ready:   probe.Spec{Kind: probe.HTTP, Port: 9090, Path: "/-/healthy"},
		},
		meshNode("a"), meshNode("b"),
		{
			Name: "infermesh-router", Image: meshImage,
			Env: []string{
				"MESH_ROLE=router", meshPortEnv, "MESH_NODES=infermesh-node-a:9000,infermesh-node-b:9000", meshRedis,
			},
			Ports: loopback(19000, meshPort), Needs: []Need{{Name: "infermesh-node-a"}, {Name: "infermesh-node-b"}},
			Ready: probe.Spec{Kind: probe.HTTP, Port: meshPort, Path: "/health"},
		},
	}
}

const (
	// slow is for what loads much before it answers.
	slow = 2 * defaultStartTimeout

	meshImage   = "official-infermesh:latest"
	meshPort    = 9000
	anyFree     = 0
	meshPortEnv = "MESH_PORT=9000"
	meshRedis   = "REDIS_URL=redis://redis:6379"
)

func kafka() Definition {
	return Definition{
		Name: "kafka", Image: "confluentinc/cp-kafka:7.5.0",
		Env: []string{
			"KAFKA_BROKER_ID=1", "KAFKA_ZOOKEEPER_CONNECT=zookeeper:2181",
			"KAFKA_LISTENERS=PLAINTEXT://0.0.0.0:29092,PLAINTEXT_HOST://0.0.0.0:9092",
			"KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://kafka:29092,PLAINTEXT_HOST://localhost:9092",
			"KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
			"KAFKA_INTER_BROKER_LISTENER_NAME=PLAINTEXT", "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1",
		},
		Ports: loopback(9092, 9092), Volumes: volume("kafka_data", "/var/lib/kafka/data"), Needs: []Need{{Name: "zookeeper"}},
		Ready: probe.Spec{Kind: probe.Kafka, Port: 9092}, Limits: Limits{StartTimeout: slow},
	}
}

func meshNode(letter string) Definition {
	name := "infermesh-node-" + letter
	return Definition{
		Name: name, Image: meshImage, Env: []string{"MESH_NODE_ID=node-" + letter, meshPortEnv, meshRedis},
		// Only we connect to it from outside its network: where no way but published ports leads
		// into that, it could not be asked whether it answers.
		Ports: loopback(anyFree, meshPort), Volumes: volume("infermesh_cache_"+letter, "/cache"), Needs: []Need{{Name: "redis"}},
		Ready: probe.Spec{Kind: probe.TCP, Port: meshPort},
	}
}

func loopback(host, container int) []Port { return []Port{{Host: host, Container: container}} }

func volume(name, target string) []Volume { return []Volume{{Name: name, Target: target}} }
