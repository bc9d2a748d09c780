package app

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/dspy-agent/dspy-agent/queue"
)

// damageText says what the queue cannot read: how much, and of which tasks, the
// first few of them by name.
func damageText(list []queue.Damage) string {
	const most = 3
	var ids []string
	for _, d := range list {
		id := d.ID
		switch {
		case d.Seq == 0:
			continue // the event log, or what was made again
		case id == "":
			id = fmt.Sprintf("number %d", d.Seq)
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	text := fmt.Sprintf("damaged: %d stored records cannot be read and were left as they are", len(list))
	if len(list) == 1 {
		text = "damaged: a stored record cannot be read and was left as it is"
	}
	if len(ids) == 0 {
		return text + "; no task depends on it"
	}
	if extra := len(ids) - most; extra > 0 {
		ids = append(ids[:most], fmt.Sprintf("%d more", extra))
	}
	return text + "; tasks: " + strings.Join(ids, ", ") + "; dspy-agent queue verify tells all that is wrong; without the daemon, queue repair keeps what can be read and queue restore takes a backup; or submit them again under other ids"
}

// watchDatabase returns the error when the database turns out to be damaged, whoever
// has met that, or when another process has taken it over: nothing can be done
// without it.
func (a *App) watchDatabase(ctx context.Context) error {
	select {
	case <-a.queue.Damage():
		return a.queue.Err()
	case <-a.queue.Deposed():
		return a.queue.Err()
	case <-ctx.Done():
		return nil
	}
}
