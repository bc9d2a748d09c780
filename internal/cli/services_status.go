package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/urfave/cli/v2"

	pb "github.com/dspy-agent/dspy-agent/proto/env_manager/v1"
)

// Words of env-manager's contract.
const (
	serviceRunning   = "running" // in a status; in a start it is "healthy"
	serviceHealthy   = "healthy"
	serviceStarting  = "starting"
	serviceUnhealthy = "unhealthy"
	serviceStopped   = "stopped"
	serviceFailed    = "failed"
)

// serviceColours are the colours of these.
var serviceColours = map[string]string{
	serviceRunning: green, serviceHealthy: green, serviceStarting: cyan, serviceUnhealthy: yellow, serviceStopped: dim, serviceFailed: red,
}

// Keys of ServiceStatus.health_checks.
const (
	checkPhase   = "phase"
	checkReason  = "reason"
	checkProbe   = "probe"
	checkAdopted = "adopted"
	checkEnds    = "ends"
)

// jsonService is a service, in services and services why.
type jsonService struct {
	Name           string    `json:"name" doc:"its name"`
	Status         string    `json:"status" doc:"running, starting, unhealthy, stopped or failed"`
	Phase          string    `json:"phase,omitempty" doc:"more closely: stopped, engine_away, waiting, pulling, creating, starting, probing, ready, degraded, backing_off, blocked, failed, stopping or done"`
	Reason         string    `json:"reason,omitempty" doc:"why, in a sentence; absent where the phase says it all"`
	Probe          string    `json:"probe,omitempty" doc:"what was found when it was last asked whether it is well"`
	Adopted        string    `json:"adopted,omitempty" doc:"who has made its container, if not env-manager"`
	Ends           int       `json:"ends" doc:"how often it has ended of late, though nobody had asked for it"`
	ContainerID    string    `json:"container_id,omitempty" doc:"its container"`
	Ports          []int32   `json:"ports" doc:"ports of this host that lead to it"`
	StartedAt      *jsonTime `json:"started_at,omitempty" doc:"when its container was started"`
	CPUPercent     *float64  `json:"cpu_percent,omitempty" doc:"of one CPU; absent when it does not run"`
	MemoryBytes    *int64    `json:"memory_bytes,omitempty" doc:"what it uses; absent when it does not run"`
	NetworkRxBytes *int64    `json:"network_rx_bytes,omitempty" doc:"what it has received; absent when it does not run"`
	NetworkTxBytes *int64    `json:"network_tx_bytes,omitempty" doc:"what it has sent; absent when it does not run"`
}

func serviceJSON(v *pb.ServiceStatus) jsonService {
	checks := v.GetHealthChecks()
	j := jsonService{
		Name: v.GetName(), Status: v.GetStatus(), Phase: checks[checkPhase], Reason: checks[checkReason], Probe: checks[checkProbe], Adopted: checks[checkAdopted],
		ContainerID: v.GetContainerId(), Ports: []int32{}, StartedAt: jsonAt(startedAt(v)),
	}
	j.Ports = append(j.Ports, v.GetPorts()...)
	if n, err := strconv.Atoi(checks[checkEnds]); err == nil {
		j.Ends = n
	}
	if u := v.GetResourceUsage(); u != nil {
		j.CPUPercent, j.MemoryBytes, j.NetworkRxBytes, j.NetworkTxBytes = &u.CpuPercent, &u.MemoryBytes, &u.NetworkRxBytes, &u.NetworkTxBytes
	}
	return j
}

// startedAt is in nanoseconds, 0 if it was not.
func startedAt(v *pb.ServiceStatus) int64 { return v.GetStartedAt() * int64(time.Second) }

// statusOf asks how services are, by name; all if none is named.
func statusOf(ctx context.Context, em *envManager, names []string) ([]*pb.ServiceStatus, error) {
	answer, err := em.GetServicesStatus(ctx, &pb.GetServicesStatusRequest{ServiceNames: names})
	if err != nil {
		return nil, err
	}
	var out []*pb.ServiceStatus
	for _, v := range answer.GetServices() {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *pb.ServiceStatus) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

func (s *session) servicesStatus(c *cli.Context, names []string) error {
	return s.withEnvManager(c, c.Bool("json"), func(ctx context.Context, em *envManager) error {
		list, err := statusOf(ctx, em, names)
		if err != nil {
			return err
		}
		if c.Bool("json") {
			out := []jsonService{}
			for _, v := range list {
				out = append(out, serviceJSON(v))
			}
			return writeJSON(s.out, out)
		}
		s.showServices(list)
		return nil
	})
}

func (s *session) showServices(list []*pb.ServiceStatus) {
	const colStatus, colStarted, colPorts, colCPU, colMem = 1, 2, 3, 4, 5
	g := grid{
		header: []string{"SERVICE", "STATUS", "STARTED", "PORTS", "CPU", "MEM", "DETAIL"},
		right:  []int{colCPU, colMem}, whole: []int{colStatus}, drop: []int{colCPU, colMem, colStarted, colPorts},
	}
	for _, v := range list {
		started := stamp(startedAt(v))
		if s.out.tty {
			started = ago(startedAt(v), s.now())
		}
		cpu, mem := s.usageOf(v.GetResourceUsage())
		g.add(v.GetName(), s.out.paint(serviceColours[v.GetStatus()], v.GetStatus()), started, portList(v.GetPorts()), cpu, mem, serviceDetail(v))
	}
	g.write(s.out)
}

// usageOf is what a service uses: for people, or as numbers for a program.
func (s *session) usageOf(u *pb.ResourceUsage) (cpu, mem string) {
	switch {
	case u == nil:
		return "", ""
	case s.out.tty:
		return fmt.Sprintf("%.0f%%", u.GetCpuPercent()), humanize.IBytes(uint64(max(u.GetMemoryBytes(), 0)))
	}
	return strconv.FormatFloat(u.GetCpuPercent(), 'f', 1, 64), number(u.GetMemoryBytes())
}

func portList(ports []int32) string {
	var out []string
	for _, p := range ports {
		out = append(out, strconv.Itoa(int(p)))
	}
	return strings.Join(out, ",")
}

// serviceDetail is what the status does not say.
func serviceDetail(v *pb.ServiceStatus) string {
	checks := v.GetHealthChecks()
	phase := strings.ReplaceAll(checks[checkPhase], "_", " ")
	if phase == v.GetStatus() || phase == "ready" {
		phase = ""
	}
	text := strings.TrimPrefix(strings.TrimSuffix(phase+": "+checks[checkReason], ": "), ": ")
	var more []string
	for _, t := range []string{text, endsText(checks[checkEnds]), adoptedText(checks[checkAdopted])} {
		if t != "" {
			more = append(more, oneLine(t))
		}
	}
	return strings.Join(more, "; ")
}

// endsText says how often a service has ended by itself; "" if not.
func endsText(ends string) string {
	switch ends {
	case "", "0":
		return ""
	case "1":
		return "ended once of late"
	}
	return "ended " + ends + " times of late"
}

func adoptedText(by string) string {
	if by == "" {
		return ""
	}
	return "adopted from " + by
}
