// Command kafka is a broker for tests, in a container: kfake of franz-go, which
// speaks Kafka's protocol, with its topics in a folder. It ends with 0 after
// SIGTERM; what it acknowledged it has after kill -9 too.
package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kafka:", err)
		os.Exit(1) //nolint:forbidigo // this is a program of its own
	}
}

func run() error {
	listen := flag.String("listen", ":9092", "address to listen on")
	advertise := flag.String("advertise", "127.0.0.1:9092", "`address` by which clients come back")
	data := flag.String("data", "/var/lib/kafka/data", "`folder` of the topics")
	delay := flag.Duration("delay", 0, "how long it takes to start")
	flag.Parse()
	back, err := net.ResolveTCPAddr("tcp", *advertise)
	if err != nil {
		return fmt.Errorf("-advertise: %w", err)
	}

	ends := make(chan os.Signal, 1)
	signal.Notify(ends, syscall.SIGTERM, syscall.SIGINT) //nolint:forbidigo // this is a program of its own
	select {
	case <-time.After(*delay):
	case <-ends:
		return nil
	}
	broker, err := kfake.NewCluster(
		kfake.NumBrokers(1), kfake.Ports(back.Port), kfake.DefaultNumPartitions(1),
		kfake.DataDir(*data),
		kfake.ListenFn(func(network, _ string) (net.Listener, error) {
			l, err := net.Listen(network, *listen) //nolint:noctx // it lives as long as the program
			return advertised{l, back}, err
		}))
	if err != nil {
		return fmt.Errorf("start the broker: %w", err)
	}
	defer broker.Close()
	broker.ControlKey(int16(kmsg.Metadata), func(req kmsg.Request) (kmsg.Response, error, bool) {
		makeTopics(broker, req)
		return nil, nil, false
	})
	fmt.Printf("listening on %s, advertised as %s\n", *listen, back)
	<-ends
	return nil
}

// makeTopics makes the topics that a client asks for which are not there, if it says
// they may be made. The broker would do so by itself, but would write down that they
// exist only when it is closed.
func makeTopics(broker *kfake.Cluster, req kmsg.Request) {
	ask, ok := req.(*kmsg.MetadataRequest)
	if !ok || !ask.AllowAutoTopicCreation {
		return
	}
	for _, topic := range ask.Topics {
		if topic.Topic == nil || broker.TopicInfo(*topic.Topic) != nil {
			continue
		}
		if err := broker.CreateTopic(*topic.Topic, 0, nil); err != nil {
			fmt.Fprintf(os.Stderr, "kafka: make topic %s: %v\n", *topic.Topic, err)
		}
	}
}

// advertised is a listener that says another address is its own: the broker tells
// clients that one.
type advertised struct {
	net.Listener
	back net.Addr
}

// Addr returns the address by which clients come back.
func (a advertised) Addr() net.Addr { return a.back }
