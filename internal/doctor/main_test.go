package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"
)

// roleVar makes the test binary play another process: one under another uid, in
// mounts of its own, or with lower limits.
const roleVar = "DOCTOR_TEST_ROLE"

// build is the version that the test binary answers when it is asked.
const build = "v1.2.3"

func TestMain(m *testing.M) {
	if slices.Contains(os.Args, "--version") {
		fmt.Println("tests", build)
		return
	}
	var err error
	switch role := os.Getenv(roleVar); role {
	case "":
		goleak.VerifyTestMain(m)
		return
	case "scene":
		err = playScene(os.Args[1], os.Args[2], os.Args[3])
	case "listen":
		err = listenUntilEOF(os.Args[1], os.Args[2])
	default:
		err = fmt.Errorf("unknown role %q", role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// playScene sets a scene up, makes a check in it and prints what it found.
func playScene(name, check, dir string) error {
	if err := scenes[name](dir); err != nil {
		return fmt.Errorf("scene %s: %w", name, err)
	}
	p, err := patientIn(dir, dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(systemIn(dir)); err == nil {
		p.Root = systemIn(dir)
	}
	return json.NewEncoder(os.Stdout).Encode(made(check, p))
}

// listenUntilEOF listens, says where, and leaves when its input ends.
func listenUntilEOF(network, at string) error {
	l, err := net.Listen(network, at)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
