package servicetest

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/dspy-agent/dspy-agent/internal/dockertest"
)

// realSettings is what the images of real servers say about how they are run: as
// far as it goes, what those in registries say.
var realSettings = map[string][]string{
	// Redis refuses everybody but its own machine unless it has a password, or is told not to.
	"redis": {
		`CMD ["redis-server","--protected-mode","no"]`,
		"ENV PATH=/usr/bin", "WORKDIR /data", "VOLUME /data", "EXPOSE 6379",
	},
	"prometheus": {
		`ENTRYPOINT ["/bin/prometheus"]`,
		`CMD ["--config.file=/etc/prometheus/prometheus.yml","--storage.tsdb.path=/prometheus"]`,
		"WORKDIR /prometheus", "VOLUME /prometheus", "USER 65534", "EXPOSE 9090",
	},
	// Settings for a quick start: it is not to compile well, nor to hold much.
	"zookeeper": {
		`ENTRYPOINT ["/usr/lib/jvm/java/bin/java","-XX:+UseSerialGC","-XX:TieredStopAtLevel=1","-Xmx64m","-cp","/usr/share/java/*",` +
			`"org.apache.zookeeper.server.quorum.QuorumPeerMain","/etc/zookeeper/zoo.cfg"]`,
		"VOLUME /var/lib/zookeeper/data", "EXPOSE 2181",
	},
}

// imported is which engines have which image by now. An engine that is given one
// twice keeps the first without a name.
var imported struct {
	mu   sync.Mutex
	done map[importing]bool
}

type importing struct {
	engine *dockertest.Engine
	name   string
}

// Real gives an engine the image of a server, redis, prometheus or zookeeper, and
// returns its name there. Run with nothing said, they listen on their usual
// ports; their data are in a volume.
func Real(t testing.TB, e *dockertest.Engine, name string) string {
	t.Helper()
	settings := realSettings[name]
	if settings == nil {
		t.Fatalf("servicetest: there is no %s: redis, prometheus and zookeeper", name)
	}
	ref := "localhost/dspy-" + name + ":1"
	imported.mu.Lock()
	defer imported.mu.Unlock()
	key := importing{e, name}
	if !imported.done[key] {
		e.Import(t, ref, archives(t, name)[0], settings...)
		if imported.done == nil {
			imported.done = map[importing]bool{}
		}
		imported.done[key] = true
	}
	return ref
}

// archives returns the paths of the files of servers. What is not there is made.
func archives(t testing.TB, names ...string) []string {
	t.Helper()
	root, err := dockertest.Root()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "service-images"), names...)
	var said bytes.Buffer
	cmd.Stderr = &said
	paths, err := cmd.Output()
	if err != nil {
		t.Fatalf("servicetest: images of %v cannot be made: %v\n%s", names, err, said.String())
	}
	return strings.Fields(string(paths))
}
