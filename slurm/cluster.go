package slurm

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// Cluster is what a Slurm has, for people.
type Cluster struct {
	Settings   Settings
	Partitions []Partition
}

// Partition is one of its partitions. Limits are as Slurm writes them; "" = there is none.
type Partition struct {
	Name        string
	Default     bool
	State       string // UP, DOWN, DRAIN or INACTIVE
	MaxTime     string
	DefaultTime string
	MaxNodes    string
	Nodes       int
	NodesUp     int // that take jobs
	CPUs        int
	CPUsFree    int // on those
	GPUs        []GPUCount
}

// GPUCount is how many GPUs of a model there are, and how many could be had now.
type GPUCount struct {
	Model string // "" = the site does not say
	Total int
	Free  int // unused, on nodes that take jobs and have a CPU left
}

// Cluster asks what there is.
func (c *Client) Cluster(ctx context.Context) (Cluster, error) {
	settings, err := c.Settings(ctx)
	if err != nil {
		return Cluster{}, err
	}
	shown, err := c.run(ctx, nil, "scontrol", "--oneliner", "show", "partition")
	if err != nil {
		return Cluster{}, unanswered(err)
	}
	listed, err := c.run(ctx, nil, "sinfo", "--noheader", "--Node", "--Format="+nodeFormat)
	if err != nil {
		return Cluster{}, unanswered(err)
	}
	return Cluster{settings, partitionsOf(shown.out, listed.out)}, nil
}

// partitionsOf puts together what scontrol says about partitions and sinfo about nodes.
func partitionsOf(shown, listed string) []Partition {
	var out []Partition
	at := map[string]int{}
	for line := range strings.Lines(shown) {
		if p, ok := parsePartition(strings.TrimSpace(line)); ok {
			at[p.Name] = len(out)
			out = append(out, p)
		}
	}
	for line := range strings.Lines(listed) {
		n, ok := parseNode(strings.TrimSpace(line))
		if i, known := at[n.partition]; ok && known {
			out[i].add(n)
		}
	}
	return out
}

// parsePartition reads a line of scontrol --oneliner show partition.
func parsePartition(line string) (Partition, bool) {
	v := map[string]string{}
	for word := range strings.FieldsSeq(line) {
		if k, value, ok := strings.Cut(word, "="); ok {
			if _, before := v[k]; !before {
				v[k] = value
			}
		}
	}
	limit := func(key string) string {
		switch v[key] {
		case "UNLIMITED", "INFINITE", "NONE", "(null)":
			return ""
		}
		return v[key]
	}
	p := Partition{
		Name: v["PartitionName"], Default: v["Default"] == "YES", State: v["State"],
		MaxTime: limit("MaxTime"), DefaultTime: limit("DefaultTime"), MaxNodes: limit("MaxNodes"),
	}
	return p, p.Name != ""
}

// nodeFormat is what sinfo is asked for, a line for each node and partition.
const nodeFormat = "NodeList:|,Partition:|,StateLong:|,CPUsState:|,Gres:|,GresUsed:|"

// node is a node in a partition.
type node struct {
	name, partition string
	up              bool
	cpus, cpusFree  int
	gpus            []GPUCount
}

// parseNode reads a line of sinfo.
func parseNode(line string) (node, bool) {
	f := strings.Split(line, "|")
	if len(f) < 6 || f[0] == "" || f[1] == "" {
		return node{}, false
	}
	n := node{name: f[0], partition: strings.TrimSuffix(f[1], "*"), up: takesJobs(f[2])}
	cpus := strings.Split(f[3], "/") // allocated/idle/other/total
	if len(cpus) != 4 {
		return node{}, false
	}
	n.cpus, n.cpusFree = count(cpus[3]), count(cpus[1])
	used := gpusOf(f[5])
	for _, g := range gpusOf(f[4]) {
		g.Free = g.Total
		for _, u := range used {
			if u.Model == g.Model || u.Model == "" && len(used) == 1 {
				g.Free = max(g.Total-u.Total, 0)
			}
		}
		if !n.up || n.cpusFree == 0 {
			g.Free = 0
		}
		n.gpus = append(n.gpus, g)
	}
	return n, true
}

// takesJobs says whether a node in a state may be given a job now. Behind the state stand
// marks: * it does not answer, ~ it is switched off, # it is being switched on.
func takesJobs(state string) bool {
	word := strings.TrimRight(state, "~#!%$@^-+")
	return slices.Contains([]string{"idle", "mixed", "allocated", "completing", "planned"}, word)
}

// gpusOf reads the GPUs of a list such as gpu:h100:4(S:0-1),gpu:2(IDX:0,2),shard:8.
func gpusOf(text string) []GPUCount {
	var out []GPUCount
	for _, item := range splitOutside(text) {
		if i := strings.LastIndexByte(item, '('); i > 0 && strings.HasSuffix(item, ")") {
			item = item[:i] // which they are, or at which sockets
		}
		f := strings.Split(item, ":")
		if f[0] != "gpu" || len(f) < 2 {
			continue
		}
		g := GPUCount{Total: count(f[len(f)-1])}
		if len(f) > 2 && f[1] != "(null)" {
			g.Model = f[1]
		}
		if i := slices.IndexFunc(out, func(o GPUCount) bool { return o.Model == g.Model }); i >= 0 {
			out[i].Total += g.Total
			continue
		}
		out = append(out, g)
	}
	return out
}

// splitOutside splits at commas that are in no brackets.
func splitOutside(text string) []string {
	var out []string
	depth, from := 0, 0
	for i, c := range text {
		switch c {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case ',':
			if depth == 0 {
				out, from = append(out, text[from:i]), i+1
			}
		}
	}
	return append(out, text[from:])
}

// count is a number that is not negative; 0 for what is none.
func count(word string) int {
	n, err := strconv.Atoi(word)
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (p *Partition) add(n node) {
	p.Nodes++
	p.CPUs += n.cpus
	if n.up {
		p.NodesUp++
		p.CPUsFree += n.cpusFree
	}
	for _, g := range n.gpus {
		i := slices.IndexFunc(p.GPUs, func(o GPUCount) bool { return o.Model == g.Model })
		if i < 0 {
			p.GPUs = append(p.GPUs, g)
			continue
		}
		p.GPUs[i].Total += g.Total
		p.GPUs[i].Free += g.Free
	}
}
