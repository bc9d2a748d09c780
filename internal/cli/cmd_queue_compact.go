package cli

import (
	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/internal/app"
)

// jsonCompact is the answer of queue compact.
type jsonCompact struct {
	Path        string `json:"path" doc:"the database in use now"`
	BytesBefore int64  `json:"bytes_before" doc:"size of the one before, which was removed"`
	FreeBefore  int64  `json:"free_bytes_before" doc:"how much of that was free, between what is in use"`
	Reserved    int64  `json:"reserved_bytes_before" doc:"how much of it was behind that, made ready for what would come"`
	BytesAfter  int64  `json:"bytes_after" doc:"size of the new one"`
}

func (s *session) queueCompact(c *cli.Context, _ []string) error {
	care, cfg, err := s.care(c)
	if err != nil {
		return err
	}
	var done app.Compacted
	if err := s.whenFree(c.Context, cfg, "compact", func() (err error) {
		done, err = care.Compact(c.Context)
		return err
	}); err != nil {
		return err
	}
	j := jsonCompact{Path: done.Path, BytesBefore: done.Before, FreeBefore: int64(done.FreePages) * int64(done.PageSize), Reserved: done.Reserve, BytesAfter: done.After}
	if c.Bool("json") {
		return writeJSON(s.out, j)
	}
	s.out.printf("compacted: %s; now %s, in %s\n", sizeText(j.BytesBefore, j.FreeBefore, j.Reserved), humanize.IBytes(uint64(j.BytesAfter)), oneLine(j.Path))
	return nil
}
