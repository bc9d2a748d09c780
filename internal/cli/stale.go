package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

// A daemon reads the configuration file when it is started. It tells of which moment the
// file was, by the file's own time, so that no two clocks are compared.

// configChanged says that the file has become another one since, "" if not,
// or if it cannot be told.
func configChanged(cfg config.Config, h *pb.HealthResponse) string {
	file := h.GetConfigFile()
	if file == "" || file == os.DevNull || cfg.GRPCAddr != "" && !onLoopback(cfg.GRPCAddr) { // then the path is another host's
		return ""
	}
	info, err := os.Stat(file)
	switch read := h.GetConfigChangedAtNs(); {
	case errors.Is(err, fs.ErrNotExist) && read != 0:
		return fmt.Sprintf("%s is gone, and the daemon goes on with what it has read there", oneLine(file))
	case err != nil, info.ModTime().UnixNano() == read:
		return ""
	case read == 0 && saysNothing(cfg, file):
		return "" // such as what config init writes: the defaults hold as before
	}
	return fmt.Sprintf("%s is newer than the daemon, which knows what it said before", oneLine(file))
}

// saysNothing says that a configuration file has comments at most, and headers of tables
// that there are without it.
func saysNothing(cfg config.Config, path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	tables := withTables(config.Default(cfg.Workspace).Keys())
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' || slices.Contains(tables, strings.TrimSuffix(strings.TrimPrefix(line, "["), "]")) {
			continue
		}
		return false
	}
	return true
}

// startAnew is what to do about it.
const startAnew = "; stop and start it to take over what the file says now: running tasks go on"

// staleNoted adds that to a refusal, which may come of it: what is configured now is not
// known to the daemon.
func staleNoted(ctx context.Context, cfg config.Config, cl *client, err error) error {
	if cl.unattended() || task.CodeOf(err) != task.CodeInvalid {
		return err
	}
	h, down := cl.Health(ctx, &pb.HealthRequest{})
	if down != nil {
		return err
	}
	if note := configChanged(cfg, h); note != "" {
		return fmt.Errorf("%w\nnote: %s", err, note+startAnew)
	}
	return err
}
