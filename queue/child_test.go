package queue_test

import (
	"fmt"
	"os"
)

// Some tests need a second process. The test binary runs itself with childEnv
// set, and TestMain hands over to childMain.
const (
	childEnv    = "DSPY_QUEUE_TEST_CHILD"
	childDirEnv = "DSPY_QUEUE_TEST_DIR"
)

// roles are what a child can be.
var roles = map[string]func(dir string) error{"rss": rssChild, "churn": churn, "spoil": spoil, "repair": repairAll}

// childMain returns false in an ordinary run.
func childMain() bool {
	role := os.Getenv(childEnv)
	if role == "" {
		return false
	}
	if err := roles[role](os.Getenv(childDirEnv)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return true
}
