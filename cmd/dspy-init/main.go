// Command dspy-init is the first process in containers of tasks: it starts the program once,
// keeps what it prints, and writes down how it ended. It is small and in no need of
// anything, since it runs in any image. Nobody calls it by hand.
package main

import (
	"os"
	"os/signal"

	"github.com/dspy-agent/dspy-agent/internal/containerinit"
)

func main() {
	signals := make(chan os.Signal, 64)
	signal.Notify(signals)
	os.Exit(containerinit.Main(os.Args[1:], os.Environ(), signals))
}
