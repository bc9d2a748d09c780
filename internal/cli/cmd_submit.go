package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/urfave/cli/v2"
	"google.golang.org/protobuf/proto"

	"github.com/dspy-agent/dspy-agent/gpu"
	"github.com/dspy-agent/dspy-agent/internal/api"
	"github.com/dspy-agent/dspy-agent/internal/config"
	"github.com/dspy-agent/dspy-agent/internal/shellword"
	"github.com/dspy-agent/dspy-agent/internal/task"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

const cmdSubmit = "submit"

func (s *session) submitCommand() *cli.Command {
	c := s.command(cli.Command{
		Name: cmdSubmit, Usage: "submit a task, or a file of tasks", Category: categorySubmit,
		ArgsUsage: "-- PROGRAM [ARGUMENT...]",
		UsageText: "dspy-agent submit [flags] -- PROGRAM [ARGUMENT...]\n" +
			"dspy-agent submit --from-file tasks.jsonl",
		Description: "The program runs as if started here and now: same arguments byte by byte, same folder,\n" +
			"and of the environment what docs/cli.md lists; --env adds to that. The id is printed once\n" +
			"the task is on disk. Submitting the same id with the same content again changes nothing.\n\n" +
			"A file has one JSON object per line, with the keys that are listed below. Flags beside the file\n" +
			"hold for the lines that do not say otherwise. All lines are checked before the first is\n" +
			"submitted, and lines that wait for each other in a circle are refused; what the queue alone\n" +
			"knows (an id that is taken, an after that it does not know) is refused line by line. A line\n" +
			"may wait for a later one. A line without an id gets one from the file's path, its number, its\n" +
			"text and the flags, so that the command can be repeated after a break and submits nothing\n" +
			"twice; what comes through a pipe is new tasks each time, unless the lines have ids.",
		Flags:  append(submitFlags(), laterFlagDefs()...),
		Action: s.submit,
	})
	c.CustomHelpTemplate += lineKeyHelp()
	return c
}

func submitFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "id", Usage: "`ID` of the task (default: a new one)"},
		&cli.StringFlag{Name: "name", Usage: "`NAME` for people (default: the beginning of the command)"},
		&cli.StringFlag{Name: "class", Usage: "`CLASS` of the task", DefaultText: config.DefaultClass},
		&cli.IntFlag{Name: "priority", Usage: "`N`: higher is sooner"},
		&cli.StringSliceFlag{Name: "env", Usage: "set `NAME=VALUE` for the task, or take NAME along; may be repeated"},
		&cli.StringFlag{Name: "workdir", Usage: "`DIR` to run in (default: the current one, in a container the image's own)"},
		&cli.StringFlag{Name: "image", Usage: "container `IMAGE` to run in (default: on this machine directly)"},
		&cli.StringSliceFlag{Name: "mount", Usage: "show a path of this host to the container: `HOST[:PATH][:ro]`; may be repeated"},
		&cli.StringFlag{Name: "network", Usage: "`NETWORK` of the container: none, or one that the configuration allows"},
		boolFlag("image-entrypoint", "give the command to the image's entry point, in whose place it is put otherwise"),
		&cli.StringFlag{Name: "timeout", Usage: "stop the task after `TIME` (90, 10m, 1h30m, 2d)"},
		&cli.StringFlag{Name: "cpus", Usage: "`N` CPUs that the task needs, such as 4 or 0.5", DefaultText: "1"},
		&cli.StringFlag{Name: "mem", Usage: "`SIZE` of memory that the task needs, such as 4GiB; it is counted, and enforced in a container"},
		&cli.IntFlag{Name: "gpus", Usage: "`N` whole GPUs that the task needs (default: as its class has it)"},
		&cli.StringFlag{Name: "gpu-mem", Usage: "`SIZE` of GPU memory, such as 20GiB: a part of one GPU, which others may share"},
		&cli.StringFlag{Name: "gpu-model", Usage: "`MODEL` of GPU, such as H100 or rtx4090 (default: any)"},
		&cli.StringFlag{Name: "mig", Usage: "a MIG instance of this `PROFILE`, such as 1g.10gb"},
		&cli.StringFlag{Name: "on-lost", Usage: "`POLICY` when nobody saw how the task ended: fail, or retry if it may run twice", DefaultText: "fail"},
		&cli.IntFlag{Name: "retries", Usage: "try up to `N` times more when it fails"},
		&cli.StringSliceFlag{Name: "after", Usage: "start after `ID[:ok|any|notok]` has ended so (default: ok); may be repeated"},
		&cli.StringFlag{Name: "payload", Usage: "`JSON` object for the program; @FILE reads a file, - the standard input"},
		&cli.StringFlag{Name: "from-file", Usage: "submit the tasks of `FILE`, one JSON object per line; - is the standard input"},
		boolFlag("wait", "wait for the end, and end with the task's own exit code", "w"),
		boolFlag("follow", "as --wait, and print the output while it comes (with --json: on the standard error)", "f"),
		jsonFlag(),
	}
}

func (s *session) submit(c *cli.Context) error {
	cfg, err := s.config(c)
	if err != nil {
		return err
	}
	if c.IsSet("from-file") {
		return s.submitFile(c, cfg)
	}
	if err := refuseLater(c); err != nil {
		return err
	}
	if err := checkGiven(c, cfg); err != nil {
		return err
	}
	req, err := s.submission(c, cfg)
	if err != nil {
		return err
	}
	s.hintWords(req.GetSpec())
	needs := s.submitNeeds(c)
	if c.Bool("wait") || c.Bool("follow") {
		needs = needsDaemon
	}
	err = s.withClient(c, needs, func(ctx context.Context, cl *client) error {
		answer, err := s.send(ctx, cl, req)
		if err != nil {
			return staleNoted(ctx, cfg, cl, err)
		}
		if !answer.GetSuccess() {
			return staleNoted(ctx, cfg, cl, refused(answer, req.GetSpec().GetAfter()))
		}
		s.warn(answer)
		if c.Bool("wait") || c.Bool("follow") {
			return s.submitAndWait(ctx, cl, answer, c.Bool("follow"), c.Bool("json"))
		}
		if err := s.submitted(ctx, cl, answer, c.Bool("json")); err != nil {
			return err
		}
		s.remind(cl, "it is on disk, and nothing runs it yet")
		return nil
	})
	return noQueue(cfg, needs, s.submitElsewhere(c, cfg, req, err))
}

// hintWords says, where a whole command is one word, that it will not be found. A program may
// have a name with spaces, so it is no error.
func (s *session) hintWords(spec *pb.TaskSpec) {
	argv := spec.GetArgv()
	if len(argv) != 1 || !strings.ContainsAny(argv[0], " \t\n") || spec.GetImage() != "" {
		return
	}
	path := argv[0]
	if !filepath.IsAbs(path) {
		path = filepath.Join(spec.GetDir(), path)
	}
	if _, err := os.Stat(path); err == nil {
		return
	}
	s.err.printf("note: this is one word, and so the name of a program with spaces in it; a program with arguments: %s submit -- %s, a line of shell: %s submit -- sh -c %s\n",
		Program, oneLine(argv[0]), Program, oneLine(shellword.Quote(argv[0])))
}

// submitNeeds is what a submission needs that waits for nothing. A queue is made only
// where somebody has said where: a slip of cd is not to leave one behind.
func (s *session) submitNeeds(c *cli.Context) need {
	if c.String("workspace") != "" || s.env.getenv("ENV_QUEUE_DIR") != "" {
		return creates
	}
	return writes
}

// noQueue adds to the error that no daemon runs what would do without one.
func noQueue(cfg config.Config, n need, err error) error {
	if n != writes || !errors.Is(err, api.ErrNoDaemon) {
		return err
	}
	return task.Errorf(task.CodeOf(err), "%w\nTo leave tasks here for later, in a new queue, name the workspace: %s %s --workspace %s ...",
		err, Program, cmdSubmit, pasteable([]string{cfg.Workspace}))
}

// warn says that a task was accepted from which nothing will come.
func (s *session) warn(answer *pb.SubmitTaskResponse) {
	if w := answer.GetWarning(); w != "" {
		s.err.printf("warning: task %s was accepted, but %s\n", answer.GetTaskId(), oneLine(w))
	}
}

// checkGiven says what the daemon would refuse, as the slip in the command line
// that it is.
func checkGiven(c *cli.Context, cfg config.Config) error {
	if c.IsSet("id") {
		if c.String("id") == "" { // a new one would defeat what --id is for: submitting nothing twice
			return usagef("--id is empty; is a variable of the shell not set? Leave --id out for a new id")
		}
		if err := task.ValidateID(c.String("id")); err != nil {
			return usagef("--id: %s", err)
		}
	}
	if n := c.Int("retries"); n < 0 || n > task.MaxRetries {
		return usagef("--retries is %d; it must be between 0 and %d", n, task.MaxRetries)
	}
	if n := c.Int("priority"); n < -task.MaxPriority || n > task.MaxPriority {
		return usagef("--priority is %d; it must be between %d and %d", n, -task.MaxPriority, task.MaxPriority)
	}
	if err := emptyClass(c.IsSet("class"), c.String("class")); err != nil {
		return err
	}
	return checkClass(cfg, c.String("class"))
}

// refused turns the answer about a task that was not accepted into an error.
func refused(answer *pb.SubmitTaskResponse, after []*pb.Dependency) error {
	code := task.CodeInvalid
	if parsed, ok := parseCode(answer.GetCode()); ok {
		code = parsed
	}
	return &task.Error{Code: code, Message: "refused: " + answer.GetError() + conditionHint(answer.GetError(), after)}
}

func parseCode(name string) (task.Code, bool) {
	for code := range exitOfCode {
		if code.String() == name {
			return code, true
		}
	}
	return task.CodeInternal, false
}

// submission makes the request out of the flags and arguments.
func (s *session) submission(c *cli.Context, cfg config.Config) (*pb.SubmitTaskRequest, error) {
	argv := c.Args().Slice()
	if len(argv) == 0 && !c.IsSet("payload") && !c.IsSet("image") {
		return nil, usagef("say what to run, as in: %s submit -- python train.py", Program)
	}
	spec := &pb.TaskSpec{Argv: argv, Retries: int32(c.Int("retries"))}
	if err := s.specImage(c, cfg, spec); err != nil {
		return nil, err
	}
	for _, step := range []func(*cli.Context, *pb.TaskSpec) error{s.specDir, s.specEnv, s.specPayload, s.specTimeout, s.specAfter, s.specNeeds} {
		if err := step(c, spec); err != nil {
			return nil, err
		}
	}
	req := &pb.SubmitTaskRequest{
		Id: c.String("id"), Class: c.String("class"), Name: c.String("name"), Spec: spec,
		Priority: int32(c.Int("priority")),
	}
	if !c.IsSet("name") {
		req.Name = nameOf(argv)
	}
	return req, nil
}

func (s *session) specDir(c *cli.Context, spec *pb.TaskSpec) error {
	if spec.GetImage() != "" { // the folder is one of the container
		if dir := c.String("workdir"); dir != "" && !path.IsAbs(dir) {
			return usagef("--workdir %s: with --image it is a folder of the container, from / on, such as /%s", dir, path.Clean("/" + dir)[1:])
		}
		spec.Dir, spec.ContainerDir = s.env.Cwd, c.String("workdir")
		return nil
	}
	dir, err := s.workdir(c.String("workdir"))
	spec.Dir = dir
	return err
}

// workdir resolves and checks the folder that a task is to run in. The daemon
// would find out too, but when the task starts, which may be tomorrow.
func (s *session) workdir(given string) (string, error) {
	dir := given
	if !filepath.IsAbs(dir) {
		dir = filepath.Join(s.env.Cwd, dir)
	}
	info, err := os.Stat(dir)
	switch {
	case err != nil:
		return "", usagef("the task cannot run in %s: %s", dir, rootCause(err))
	case !info.IsDir():
		return "", usagef("the task cannot run in %s: it is not a folder", dir)
	}
	return dir, nil
}

func (s *session) specEnv(c *cli.Context, spec *pb.TaskSpec) error {
	var err error
	spec.AmbientEnv = ambient(s.env)
	spec.Env, err = chosen(s.env, c.StringSlice("env"))
	return err
}

func (s *session) specPayload(c *cli.Context, spec *pb.TaskSpec) error {
	if !c.IsSet("payload") {
		return nil
	}
	data, err := s.readPayload(c.String("payload"))
	if err != nil {
		return err
	}
	if len(data) > task.MaxPayloadBytes { // only its beginning was read
		return usagef("--payload: it is longer than the %d bytes that are allowed; put large data into a file and pass its path", task.MaxPayloadBytes)
	}
	if err := checkObject(data); err != nil {
		return usagef("--payload: %s", err)
	}
	spec.PayloadJson = data
	return nil
}

// readPayload returns the payload itself, or what @FILE or - stands for.
func (s *session) readPayload(given string) ([]byte, error) {
	limited := func(r io.Reader) ([]byte, error) { return io.ReadAll(io.LimitReader(r, task.MaxPayloadBytes+1)) }
	switch name, isFile := strings.CutPrefix(given, "@"); {
	case given == "-":
		return limited(s.env.Stdin)
	case isFile:
		if !filepath.IsAbs(name) {
			name = filepath.Join(s.env.Cwd, name)
		}
		f, err := os.Open(name)
		if err != nil {
			return nil, usagef("--payload: cannot read %s: %s", name, rootCause(err))
		}
		defer f.Close()
		return limited(f)
	default:
		return []byte(given), nil
	}
}

func (s *session) specTimeout(c *cli.Context, spec *pb.TaskSpec) error {
	if !c.IsSet("timeout") {
		return nil
	}
	d, err := parseSpan(c.String("timeout"))
	if err != nil {
		return usagef("--timeout: %s", err)
	}
	if d < time.Millisecond {
		return usagef("--timeout: a task needs some time; leave it out for no limit")
	}
	spec.TimeoutMs = d.Milliseconds()
	return nil
}

// specNeeds takes what the task needs of the machine, and what it can bear.
func (s *session) specNeeds(c *cli.Context, spec *pb.TaskSpec) error {
	spec.OnLost = c.String("on-lost")
	if spec.OnLost != "" && !slices.Contains(lostPolicies, spec.OnLost) {
		return usagef("--on-lost %s: it is fail, or retry", spec.OnLost)
	}
	res := &pb.Resources{}
	if v := c.String("cpus"); v != "" {
		milli, ok := parseCPUs(v)
		if !ok {
			return usagef("--cpus %s: give a number of CPUs, such as 4 or 0.5", v)
		}
		res.CpuMillicores = milli
	}
	if v := c.String("mem"); v != "" {
		n, ok := config.ParseSize(v)
		if !ok || n == 0 {
			return usagef("--mem %s: give a size with its unit, such as 4GiB (of 1024) or 500MB (of 1000)", v)
		}
		res.MemBytes = n
	}
	if err := gpuNeeds(c, res); err != nil {
		return err
	}
	if !proto.Equal(res, &pb.Resources{}) {
		spec.Resources = res
	}
	return nil
}

// lostPolicies are what may happen when nobody saw how a task ended.
var lostPolicies = []string{"fail", "retry"}

// parseCPUs reads a number of CPUs as thousandths.
func parseCPUs(text string) (milli int64, ok bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n >= 0.001 && n <= 1e6) {
		return 0, false
	}
	return int64(math.Round(n * 1000)), true
}

// gpuNeeds takes what the task needs of GPUs.
func gpuNeeds(c *cli.Context, res *pb.Resources) error {
	if n := c.Int("gpus"); c.IsSet("gpus") && (n < 1 || n > task.MaxGPUs) {
		return usagef("--gpus %d: give a number of GPUs from 1 on; leave it out for what the class has", n)
	}
	if v := c.String("gpu-mem"); v != "" {
		n, ok := config.ParseSize(v)
		if !ok || n == 0 {
			return usagef("--gpu-mem %s: give a size with its unit, such as 20GiB (of 1024) or 20GB (of 1000)", v)
		}
		res.GpuMemBytes = n
	}
	res.Gpus, res.GpuModel, res.Mig = int32(c.Int("gpus")), c.String("gpu-model"), c.String("mig")
	ask := gpu.Request{GPUs: int(res.GetGpus()), Bytes: res.GetGpuMemBytes(), Model: res.GetGpuModel(), MIG: res.GetMig()}
	if problem := ask.Problem(); problem != "" {
		return usagef("%s", problem)
	}
	return nil
}

func (s *session) specAfter(c *cli.Context, spec *pb.TaskSpec) error {
	for _, given := range c.StringSlice("after") {
		d, err := parseAfter(given)
		if err != nil {
			return usagef("--after: %s", err)
		}
		spec.After = append(spec.After, d)
	}
	return nil
}

// parseAfter reads ID[:ok|any|notok]. An id may itself have colons.
func parseAfter(given string) (*pb.Dependency, error) {
	id, when := given, task.AfterOK.String()
	if i := strings.LastIndexByte(given, ':'); i >= 0 {
		if _, ok := task.ParseCondition(given[i+1:]); ok {
			id, when = given[:i], given[i+1:]
		}
	}
	if err := task.ValidateID(id); err != nil {
		return nil, err
	}
	return &pb.Dependency{Id: id, When: when}, nil
}

// conditionHint says, where the daemon does not know ID:word, that the word was
// perhaps meant as a condition. It may as well be part of an id, so that only
// the daemon can tell.
func conditionHint(refusal string, after []*pb.Dependency) string {
	for _, d := range after {
		i := strings.LastIndexByte(d.GetId(), ':')
		if i >= 0 && isWord(d.GetId()[i+1:]) && strings.Contains(refusal, d.GetId()) {
			return fmt.Sprintf("; if %q was meant as a condition: they are ok, any and notok", d.GetId()[i+1:])
		}
	}
	return ""
}

func isWord(s string) bool {
	return s != "" && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsLetter(r) }) < 0
}

// nameLength bounds the name that a task gets from its command.
const nameLength = 80

// nameOf makes a name out of a command, so that a listing says more than ids.
func nameOf(argv []string) string {
	if len(argv) == 0 {
		return ""
	}
	words := append([]string{filepath.Base(argv[0])}, argv[1:]...)
	name := []rune(oneLine(strings.ToValidUTF8(shellword.Join(words), "?")))
	if len(name) > nameLength {
		name = append(name[:nameLength-3], []rune("...")...)
	}
	return string(name)
}

// submitted says that the task was accepted: its id alone where a program reads.
func (s *session) submitted(ctx context.Context, cl *client, answer *pb.SubmitTaskResponse, asJSON bool) error {
	id := answer.GetTaskId()
	switch {
	case asJSON:
		info, err := cl.GetTask(ctx, &pb.GetTaskRequest{TaskId: id})
		if err != nil {
			return err
		}
		j := taskJSON(info, s.now())
		j.Spec, j.Existing = nil, answer.GetExisting()
		return writeJSON(s.out, j)
	case !s.out.tty:
		s.out.printf("%s\n", id)
	case answer.GetExisting():
		s.out.printf("%s had been submitted before; %s show %s tells how far it is\n", s.out.paint(bold, id), Program, id)
	case cl.unattended():
		s.out.printf("submitted %s\n", s.out.paint(bold, id))
	default:
		s.out.printf("submitted %s; follow it with: %s logs %s --follow\n", s.out.paint(bold, id), Program, id)
	}
	return nil
}
