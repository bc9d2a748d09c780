package slurm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Errors of Client.
var (
	// ErrMissing: Slurm's commands are not on PATH.
	ErrMissing = errors.New("slurm is not set up here")
	// ErrUnanswered: the controller did not answer, or not in time. What was asked of it
	// may have been done.
	ErrUnanswered = errors.New("the slurm controller does not answer")
)

// Client calls Slurm's commands, without a shell and with a time limit.
type Client struct {
	// Dir is where the commands are; "" = on the PATH of Env.
	Dir string
	// Env is what they are given beside LC_ALL and the format of times; see Environment.
	// On its PATH they are looked for.
	Env []string
	// Patience is how long a command may take; 0 = DefaultPatience.
	Patience time.Duration
}

// DefaultPatience is more than twice the time that Slurm's commands give a controller
// unless they are told otherwise (MessageTimeout, 10 s).
const DefaultPatience = 25 * time.Second

// kept are the variables that say where Slurm and the user's things are. Those that begin
// with SBATCH_ are not among them: they would win over what a script says.
var kept = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TMPDIR", "TZ", "SLURM_CONF", "SLURM_CLUSTERS", "SLURM_CONF_SERVER", "KRB5CCNAME"}

// said is what a command printed.
type said struct{ out, err string }

// noCluster is what Slurm's commands say where there is no slurm.conf.
const noCluster = "Could not establish a configuration source"

// run calls a command. An error is an *exec.ExitError with what it printed to stderr, or
// matches ErrMissing or ErrUnanswered.
func (c *Client) run(ctx context.Context, stdin []byte, name string, args ...string) (said, error) {
	patience := c.Patience
	if patience <= 0 {
		patience = DefaultPatience
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path, err := c.find(name)
	if err != nil {
		return said{}, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = c.environ()
	cmd.Dir = "/"
	cmd.WaitDelay = time.Second
	if stdin != nil {
		cmd.Stdin = bytes.NewReader(stdin)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	s := said{out.String(), strings.TrimSpace(errs.String())}
	switch {
	case err == nil:
		return s, nil
	case errors.Is(err, fs.ErrNotExist):
		return s, fmt.Errorf("%w: %s is gone", ErrMissing, path)
	case ctx.Err() != nil:
		return s, fmt.Errorf("%w: %s took longer than %s", ErrUnanswered, name, patience)
	case strings.Contains(s.err, noCluster):
		return s, fmt.Errorf("%w: its commands are installed, and know of no cluster: set SLURM_CONF", ErrMissing)
	default:
		return s, fmt.Errorf("%s: %w: %s", name, err, lastLine(s.err))
	}
}

// find returns where a command is: in Dir, else on the PATH that it is given.
func (c *Client) find(name string) (string, error) {
	dirs := []string{c.Dir}
	if c.Dir == "" {
		for _, kv := range c.Env {
			if path, ok := strings.CutPrefix(kv, "PATH="); ok {
				dirs = filepath.SplitList(path)
			}
		}
	}
	for _, dir := range dirs {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%w: there is no %s on PATH", ErrMissing, name)
}

// Environment is what commands, and through sbatch jobs, are to have of an environment.
func Environment(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return !slices.Contains(kept, name)
	})
}

func (c *Client) environ() []string {
	// Times as seconds since 1970: every other format is without a zone.
	return append(slices.Clip(c.Env), "LC_ALL=C", "SLURM_TIME_FORMAT=%s")
}

func lastLine(text string) string {
	return text[strings.LastIndexByte(text, '\n')+1:]
}

// Submit calls sbatch with a script and returns the number of the job. An error that
// matches *RefusedError is an answer; any other leaves open whether there is a job.
func (c *Client) Submit(ctx context.Context, script []byte, args ...string) (job string, err error) {
	s, err := c.run(ctx, script, "sbatch", append([]string{"--parsable"}, args...)...)
	if err != nil {
		if r := refusalIn(s.err); r != nil {
			return "", r
		}
		return "", err
	}
	job, _, _ = strings.Cut(strings.TrimSpace(lastLine(strings.TrimSpace(s.out))), ";") // ID, or ID;CLUSTER
	if _, err := strconv.ParseUint(job, 10, 64); err != nil {
		return "", fmt.Errorf("sbatch answered %q, which is no number of a job", s.out)
	}
	return job, nil
}

// Queue returns the user's jobs whose names begin with prefix: all that Slurm still
// knows, those that ended a short while ago included.
func (c *Client) Queue(ctx context.Context, prefix string) ([]Job, error) {
	s, err := c.run(ctx, nil, "squeue", "--me", "--noheader", "--states=all", "--format="+queueFormat)
	if err != nil {
		return nil, unanswered(err)
	}
	var jobs []Job
	for line := range strings.Lines(s.out) {
		j, ok := parseJob(strings.TrimSuffix(line, "\n"))
		if ok && strings.HasPrefix(j.Name, prefix) {
			jobs = append(jobs, j)
		}
	}
	return jobs, nil
}

// unanswered makes ErrUnanswered of every failure of a command that only asks: it has
// nothing else to say.
func unanswered(err error) error {
	if errors.Is(err, ErrMissing) || errors.Is(err, ErrUnanswered) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnanswered, err)
}

// Cancel ends jobs. Those that have ended, or are not known, are no error.
func (c *Client) Cancel(ctx context.Context, jobs ...string) error {
	s, err := c.run(ctx, nil, "scancel", append([]string{"--quiet"}, jobs...)...)
	var exit *exec.ExitError
	if errors.As(err, &exit) && s.err == "" {
		return nil // --quiet is about jobs that are over; scancel ends with 1 all the same
	}
	return err
}

// Settings are what a Slurm says about itself.
type Settings struct {
	Cluster        string
	Version        string
	MessageTimeout time.Duration // how long a message to it may take
	MinJobAge      time.Duration // how long it remembers a job that has ended
	KillWait       time.Duration // between SIGTERM and SIGKILL
	Accounting     bool          // it keeps a history of jobs, which sacct reads
}

// Settings asks for them.
func (c *Client) Settings(ctx context.Context) (Settings, error) {
	s, err := c.run(ctx, nil, "scontrol", "show", "config")
	if err != nil {
		return Settings{}, unanswered(err)
	}
	return parseSettings(s.out), nil
}

func parseSettings(text string) Settings {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if k, v, ok := strings.Cut(line, "="); ok {
			values[strings.TrimSpace(k)] = strings.TrimSpace(v)
		}
	}
	seconds := func(key string, otherwise time.Duration) time.Duration {
		word, _, _ := strings.Cut(values[key], " ") // "10 sec"
		n, err := strconv.Atoi(word)
		if err != nil || n < 0 {
			return otherwise
		}
		return time.Duration(n) * time.Second
	}
	return Settings{
		Cluster: values["ClusterName"], Version: values["SLURM_VERSION"],
		MessageTimeout: seconds("MessageTimeout", 10*time.Second),
		MinJobAge:      seconds("MinJobAge", 300*time.Second),
		KillWait:       seconds("KillWait", 30*time.Second),
		Accounting:     hasHistory(values["AccountingStorageType"]),
	}
}

// hasHistory says whether there is a database of jobs, by the name of Slurm's plugin. Before
// 25.05 none was called accounting_storage/none; later it is not set at all.
func hasHistory(plugin string) bool {
	return strings.TrimPrefix(plugin, "accounting_storage/") == "slurmdbd"
}
