package cli

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	"github.com/dspy-agent/dspy-agent/gpu"
	pb "github.com/dspy-agent/dspy-agent/proto/orchestrator/v1"
)

const cmdGPUs = "gpus"

var gpusActions = []action{
	{"drain", "ID", []string{"reason", "json"}, "give it to no more tasks; the one that has it goes on"},
	{"resume", "ID", []string{"json"}, "give it out again; it is also your word that a GPU is well that was unhealthy or lost"},
}

func (s *session) gpusCommand() *cli.Command {
	return s.command(cli.Command{
		Name: cmdGPUs, Usage: "show this machine's GPUs, and who has them", Category: categoryDaemon,
		ArgsUsage: "[drain ID | resume ID]",
		Description: "Of each GPU and MIG instance: memory, use, temperature, power, who has it, and whether a task\n" +
			"could have it now, and if not, why. What the driver does not tell is n/a. " + Program + " why TASK\n" +
			"tells what a task waits for.\n\n" +
			actionLines(gpusActions) + "\nID is the UUID, the beginning of it as it is listed, or the index. A drain holds until it is resumed, also when the\n" +
			"daemon is started anew.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "with drain: `TEXT` for those who ask why a task waits"},
			boolFlag("watch", "show it again every two seconds, until Ctrl-C", "w"),
			boolFlag("wide", "whole lines with whole UUIDs, however wide the terminal is"), jsonFlag(),
		},
		Action: s.gpusAction,
	})
}

func (s *session) gpusAction(c *cli.Context) error {
	action, id := c.Args().First(), c.Args().Get(1)
	switch {
	case c.IsSet("reason") && action != "drain":
		return usagef("--reason goes with gpus drain")
	case action == "":
		return s.withClient(c, needsDaemon, func(ctx context.Context, cl *client) error {
			return s.gpus(ctx, cl, c.Bool("watch"), c.Bool("json"), c.Bool("wide"))
		})
	case !slices.Contains(actionNames(cmdGPUs), action):
		return usagef("gpus has no %q%s", action, orHint(nearest(action, actionNames(cmdGPUs)), strings.Join(actionNames(cmdGPUs), ", ")))
	case c.NArg() != 2 || id == "":
		return usagef("gpus %s takes the UUID or index of one GPU; %s gpus lists them", action, Program)
	}
	return s.withClient(c, needsDaemon, func(ctx context.Context, cl *client) error {
		var g *pb.GPUStatus
		said := "is given out again"
		if action == "drain" {
			answer, err := cl.DrainGPU(ctx, &pb.DrainGPURequest{Id: id, Reason: c.String("reason")})
			if err != nil {
				return noTask(err)
			}
			g, said = answer.GetGpu(), "is drained"
		} else {
			answer, err := cl.ResumeGPU(ctx, &pb.ResumeGPURequest{Id: id})
			if err != nil {
				return noTask(err)
			}
			g = answer.GetGpu()
		}
		if c.Bool("json") {
			return writeJSON(s.out, gpuJSON(g))
		}
		if s.out.printf("GPU %s (%s) %s", gpuIndex(g), g.GetId(), said); g.GetState() == string(gpu.Drained) && action == "drain" {
			s.out.printf("%s\n", strings.TrimPrefix(oneLine(gpuState(g)), g.GetState())) // once is enough
			return nil
		}
		s.out.printf("; it is %s now\n", oneLine(gpuState(g)))
		return nil
	})
}

// gpuEvery is how often --watch looks.
const gpuEvery = 2 * time.Second

func (s *session) gpus(ctx context.Context, cl *client, watch, asJSON, wide bool) error {
	for {
		list, err := cl.ListGPUs(ctx, &pb.ListGPUsRequest{})
		if err != nil {
			if watch && interrupted(ctx) {
				return nil
			}
			return err
		}
		switch {
		case asJSON && watch:
			err = writeJSONLine(s.out, gpusJSON(list))
		case asJSON:
			err = writeJSON(s.out, gpusJSON(list))
		default:
			if watch && s.out.control() {
				s.out.printf("\x1b[H\x1b[2J")
			}
			s.showGPUs(list, wide)
		}
		if err != nil || !watch {
			return err
		}
		next := time.NewTimer(gpuEvery)
		select {
		case <-ctx.Done():
			next.Stop()
			return nil
		case <-next.C:
		}
	}
}

func (s *session) showGPUs(list *pb.ListGPUsResponse, wide bool) {
	if d := list.GetDown(); d != "" {
		s.out.printf("no GPU is given out: %s\n", oneLine(d))
	}
	switch {
	case len(list.GetGpus()) > 0 && s.out.tty && !wide:
		g := gpuGrid(list.GetGpus(), true)
		g.write(s.out)
	case len(list.GetGpus()) > 0 && s.out.tty:
		g := gpuGrid(list.GetGpus(), false)
		g.render(s.out, math.MaxInt32)
	case len(list.GetGpus()) > 0:
		g := gpuGrid(list.GetGpus(), false)
		g.write(s.out)
	case list.GetDown() == "":
		s.out.printf("this host has no GPU\n")
	}
}

// mostShort is how much of a UUID is shown where room is scarce: eight digits of a real
// one tell it from all others of the machine.
const mostShort = len("GPU-") + 12

// gpuGrid is the table of GPUs; in a short one are beginnings of UUIDs that say which is
// meant.
func gpuGrid(list []*pb.GPUStatus, short bool) grid {
	const colModel, colTemp, colPower, colWhy, colUUID = 2, 5, 6, 8, 9
	g := grid{
		header: []string{"GPU", "STATE", "MODEL", "MEMORY", "USE", "TEMP", "POWER", "WHO", "WHY", "UUID"},
		right:  []int{4, colTemp, colPower}, drop: []int{colPower, colTemp, colModel, colUUID}, whole: []int{colUUID},
	}
	if !slices.ContainsFunc(list, func(d *pb.GPUStatus) bool { return why(d) != "" }) {
		g.drop = slices.Insert(g.drop, 0, colWhy) // nothing is in it, and it would take the place of who has them
	}
	ids, instances := make([]string, len(list)), false
	for i, d := range list {
		ids[i], instances = d.GetId(), instances || d.GetKind() == string(gpu.MIG)
	}
	if short {
		ids = beginnings(ids)
	}
	switch {
	case instances: // which have no other name
		g.drop = slices.DeleteFunc(g.drop, func(i int) bool { return i == colUUID })
	case slices.ContainsFunc(ids, func(id string) bool { return len(id) > mostShort }):
		g.drop = append([]int{colUUID}, slices.DeleteFunc(g.drop, func(i int) bool { return i == colUUID })...)
	}
	for i, d := range list {
		g.add(gpuIndex(d), d.GetState(), oneLine(d.GetModel()), memory(d), gpuUse(d.GpuPercent), degrees(d.TemperatureC), watts(d.PowerMw),
			oneLine(who(d)), oneLine(why(d)), ids[i])
	}
	return g
}

// leastShort is the shortest beginning that is shown: the kind and the first eight digits.
const leastShort = len("GPU-") + 8

// beginnings are as much of each id as tells it from the others.
func beginnings(ids []string) []string {
	out := make([]string, len(ids))
	for i, id := range ids {
		n := leastShort
		for j, other := range ids {
			if i == j {
				continue
			}
			same := 0
			for same < min(len(id), len(other)) && id[same] == other[same] {
				same++
			}
			n = max(n, same+1)
		}
		out[i] = id[:min(n, len(id))]
	}
	return out
}

const notKnown = "n/a"

func gpuIndex(d *pb.GPUStatus) string {
	switch {
	case d.GetIndex() < 0:
		return "-"
	case d.GetProfile() != "":
		return fmt.Sprintf("%d/%s", d.GetIndex(), d.GetProfile())
	default:
		return fmt.Sprint(d.GetIndex())
	}
}

func memory(d *pb.GPUStatus) string {
	if d.UsedBytes == nil {
		return notKnown
	}
	return humanize.IBytes(uint64(d.GetUsedBytes())) + " of " + humanize.IBytes(uint64(d.GetTotalBytes()))
}

func gpuUse(v *int32) string {
	if v == nil {
		return notKnown
	}
	return fmt.Sprintf("%d%%", *v)
}

func degrees(v *int32) string {
	if v == nil {
		return notKnown
	}
	return fmt.Sprintf("%d°C", *v)
}

func watts(v *int64) string {
	if v == nil {
		return notKnown
	}
	return fmt.Sprintf("%d W", *v/1000)
}

// who has it: tasks that hold it, and everything else that is on it.
func who(d *pb.GPUStatus) string {
	var parts []string
	for _, h := range d.GetHolders() {
		parts = append(parts, "task "+h)
	}
	for _, p := range d.GetProcesses() {
		if owner := p.GetOwner(); owner != "" && slices.Contains(parts, owner) {
			continue
		}
		used := notKnown
		if p.UsedBytes != nil {
			used = humanize.IBytes(uint64(p.GetUsedBytes()))
		}
		text := fmt.Sprintf("%s (uid %d, pid %d, %s)", p.GetCommand(), p.GetUid(), p.GetPid(), used)
		if p.GetOwner() != "" {
			text = p.GetOwner() + ": " + text
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// why says why a task could not have it, and what else is wrong.
func why(d *pb.GPUStatus) string {
	text := d.GetBecause()
	if d.GetState() == string(gpu.Foreign) && len(d.GetProcesses()) > 0 {
		text = "" // they are named beside it
	}
	if r := d.GetReservedFor(); r != "" {
		text = strings.TrimPrefix(text+"; kept for task "+r, "; ")
	}
	if d.GetContended() {
		text = strings.TrimPrefix(text+"; contended", "; ")
	}
	if d.GetHealth() != "ok" && d.GetHealth() != "" && d.GetHealthReason() != d.GetBecause() {
		text = strings.TrimPrefix(text+"; "+d.GetHealth()+": "+d.GetHealthReason(), "; ")
	}
	return text
}

func gpuState(d *pb.GPUStatus) string {
	if w := why(d); w != "" {
		return d.GetState() + " (" + w + ")"
	}
	return d.GetState()
}

// jsonGPUs is what gpus tells.
type jsonGPUs struct {
	Down   string    `json:"down,omitempty" doc:"why nothing is placed on any of them"`
	Off    bool      `json:"off,omitempty" doc:"this host's GPUs are not given out at all"`
	Driver string    `json:"driver,omitempty" doc:"version of NVIDIA's driver"`
	AgeS   *float64  `json:"age_s,omitempty" doc:"seconds since the last look; absent when there was none"`
	GPUs   []jsonGPU `json:"gpus" doc:"GPUs and MIG instances"`
}

// jsonGPU is one of them. What the driver does not tell is absent.
type jsonGPU struct {
	ID           string           `json:"id" doc:"UUID"`
	Kind         string           `json:"kind" doc:"gpu, mig (an instance) or mig_parent (given out as its instances)"`
	Model        string           `json:"model,omitempty" doc:"as the driver calls it"`
	Index        *int32           `json:"index,omitempty" doc:"the driver's number; of an instance, its GPU's"`
	PCI          string           `json:"pci,omitempty" doc:"address"`
	Parent       string           `json:"parent,omitempty" doc:"UUID of the GPU that an instance is part of"`
	Profile      string           `json:"profile,omitempty" doc:"of an instance"`
	TotalBytes   int64            `json:"total_bytes,omitempty" doc:"memory"`
	UsedBytes    *int64           `json:"used_bytes,omitempty" doc:"of it"`
	FreeBytes    *int64           `json:"free_bytes,omitempty" doc:"of it"`
	UsePercent   *int32           `json:"use_percent,omitempty" doc:"of the last moment in which it computed"`
	TemperatureC *int32           `json:"temperature_c,omitempty" doc:"degrees Celsius"`
	PowerMW      *int64           `json:"power_mw,omitempty" doc:"milliwatts"`
	PowerCapMW   *int64           `json:"power_cap_mw,omitempty" doc:"milliwatts that it may draw"`
	State        string           `json:"state" doc:"free, shared, held, cooling, in use, prohibited, unread, drained, suspect, unhealthy, lost or mig"`
	Because      string           `json:"because,omitempty" doc:"why a task could not have it"`
	Since        *jsonTime        `json:"since,omitempty" doc:"of that"`
	Health       string           `json:"health,omitempty" doc:"ok, suspect, unhealthy, lost or missing"`
	HealthReason string           `json:"health_reason,omitempty" doc:"why it is not ok"`
	Holders      []string         `json:"holders,omitempty" doc:"ids of the tasks that have it"`
	ReservedFor  string           `json:"reserved_for,omitempty" doc:"id of the task that it is kept for; others get it only if they are sure to end before"`
	Contended    bool             `json:"contended,omitempty" doc:"a task has it, and somebody else uses it"`
	Processes    []jsonGPUProcess `json:"processes,omitempty" doc:"programs that compute on it"`
}

// jsonGPUProcess is a program on a GPU.
type jsonGPUProcess struct {
	PID       int32  `json:"pid" doc:"of the program"`
	UID       int32  `json:"uid" doc:"whose it is; -1 = not known"`
	Command   string `json:"command,omitempty" doc:"its name"`
	UsedBytes *int64 `json:"used_bytes,omitempty" doc:"memory that it has"`
	Owner     string `json:"owner,omitempty" doc:"the task, service, Slurm job or container that it is of"`
}

func gpusJSON(list *pb.ListGPUsResponse) jsonGPUs {
	out := jsonGPUs{Down: list.GetDown(), Off: list.GetOff(), Driver: list.GetDriver(), GPUs: []jsonGPU{}}
	if list.GetAgeMs() >= 0 {
		out.AgeS = seconds(time.Duration(list.GetAgeMs()) * time.Millisecond)
	}
	for _, g := range list.GetGpus() {
		out.GPUs = append(out.GPUs, gpuJSON(g))
	}
	return out
}

func gpuJSON(g *pb.GPUStatus) jsonGPU {
	out := jsonGPU{
		ID: g.GetId(), Kind: g.GetKind(), Model: g.GetModel(), PCI: g.GetPci(), Parent: g.GetParent(), Profile: g.GetProfile(),
		TotalBytes: g.GetTotalBytes(), UsedBytes: g.UsedBytes, FreeBytes: g.FreeBytes, UsePercent: g.GpuPercent, TemperatureC: g.TemperatureC,
		PowerMW: g.PowerMw, PowerCapMW: g.PowerCapMw, State: g.GetState(), Because: g.GetBecause(), Since: jsonAt(g.GetSinceMs() * int64(time.Millisecond)),
		Health: g.GetHealth(), HealthReason: g.GetHealthReason(), Holders: g.GetHolders(), ReservedFor: g.GetReservedFor(), Contended: g.GetContended(),
	}
	if g.GetIndex() >= 0 {
		out.Index = &g.Index
	}
	for _, p := range g.GetProcesses() {
		out.Processes = append(out.Processes, jsonGPUProcess{PID: p.GetPid(), UID: p.GetUid(), Command: p.GetCommand(), UsedBytes: p.UsedBytes, Owner: p.GetOwner()})
	}
	return out
}
