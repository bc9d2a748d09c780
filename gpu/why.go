package gpu

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Asker is who wants to know: it decides which words are used and what the clock
// on the wall shows.
type Asker struct {
	UID  int
	Zone *time.Location // nil = UTC
}

// Why says in one sentence what stands in a request's way: "needs 2 GPUs: 1 free,
// 3 held by tasks a, b, c, 1 in use by another user's python (uid 1001, pid
// 4242, 30 GiB) since 10:02, 1 unhealthy (XID 79: it fell off the bus)".
func (a Asker) Why(r Request, verdicts []Verdict, sharers int) string {
	if p := r.Problem(); p != "" {
		return p
	}
	t := tally{asker: a}
	for i := range verdicts {
		if v := &verdicts[i]; Suits(r, v) {
			t.add(v, r, sharers)
		}
	}
	if len(t.parts) == 0 {
		return fmt.Sprintf("needs %s: %s", r, none(r, verdicts))
	}
	return fmt.Sprintf("needs %s: %s", r, strings.Join(t.sentence(), ", "))
}

// Suits says whether a device is of the sort that the request is about.
func Suits(r Request, v *Verdict) bool {
	if !isModel(v.Model, r.Model) {
		return false
	}
	if r.form() == formInstance {
		return v.Kind == MIG && (v.Device == nil || v.Device.Profile == r.MIG)
	}
	return v.Kind != MIG
}

// none says why no device suits.
func none(r Request, verdicts []Verdict) string {
	var models, profiles []string
	for i := range verdicts {
		v := &verdicts[i]
		if v.Kind != MIG && !slices.Contains(models, v.Model) {
			models = append(models, v.Model)
		}
		if v.Kind == MIG && v.Device != nil && !slices.Contains(profiles, v.Device.Profile) {
			profiles = append(profiles, v.Device.Profile)
		}
	}
	switch {
	case len(models) == 0:
		return "this machine has no GPU that the driver shows"
	case r.form() == formInstance && len(profiles) == 0:
		return "no GPU of this machine is cut into MIG instances"
	case r.form() == formInstance:
		return "this machine has the profiles " + strings.Join(profiles, ", ")
	default:
		return "this machine has " + strings.Join(models, ", ")
	}
}

// tally collects, for each thing that stands in the way, how often it does.
type tally struct {
	asker Asker
	parts []*part
}

type part struct {
	state State
	n     int
	what  []string // holders or reasons
}

// order in which people want to read it.
var order = []State{Free, Shared, Held, Foreign, CoolingOff, Drained, Doubted, Ill, Away, Unread, Prohibited, Cut}

func (t *tally) add(v *Verdict, r Request, sharers int) {
	i := slices.IndexFunc(t.parts, func(p *part) bool { return p.state == v.State })
	if i < 0 {
		i = len(t.parts)
		t.parts = append(t.parts, &part{state: v.State})
	}
	p := t.parts[i]
	p.n++
	for _, w := range t.words(v, r, sharers) {
		if !slices.Contains(p.what, w) {
			p.what = append(p.what, w)
		}
	}
}

// words are what is to be said of one device, beyond its state.
func (t *tally) words(v *Verdict, r Request, sharers int) []string {
	switch v.State {
	case Held:
		return v.Holders
	case Shared:
		if len(v.Holders) >= sharers {
			return []string{fmt.Sprintf("by %d already", sharers)}
		}
		return []string{"with room for " + Size(v.Room)}
	case Free:
		switch {
		case r.form() == formShare && v.Room < r.Bytes:
			return []string{"with room for " + Size(v.Room)}
		case r.devices() > 1 && v.NoPeers != "":
			return []string{"without its links: " + v.NoPeers}
		}
		return nil
	case Foreign:
		return []string{t.foreign(v)}
	default:
		if v.Because == "" {
			return nil
		}
		return []string{v.Because}
	}
}

func (t *tally) foreign(v *Verdict) string {
	text := v.Because
	if !strings.HasPrefix(text, "by ") {
		text = "(" + text + ")"
	}
	if len(v.Occupants) > 0 {
		names := make([]string, len(v.Occupants))
		for i, o := range v.Occupants {
			names[i] = o.text(t.asker.UID)
		}
		text = "by " + enumerate(names)
	}
	return text + " since " + t.asker.Clock(v.Since)
}

// Clock is a moment as the clock on the asker's wall shows it.
func (a Asker) Clock(at time.Time) string {
	zone := a.Zone
	if zone == nil {
		zone = time.UTC
	}
	return at.In(zone).Format("15:04")
}

func (t *tally) sentence() []string {
	slices.SortStableFunc(t.parts, func(a, b *part) int { return slices.Index(order, a.state) - slices.Index(order, b.state) })
	var out []string
	for _, p := range t.parts {
		text := fmt.Sprint(p.n, " ", p.name())
		switch {
		case len(p.what) == 0:
		case p.state == Held:
			text += " by task" + map[bool]string{true: "s"}[len(p.what) > 1] + " " + enumerate(p.what)
		case p.state == Foreign || p.state == Shared || p.state == Free:
			text += " " + enumerate(p.what)
		default:
			text += " (" + strings.Join(p.what, "; ") + ")"
		}
		out = append(out, text)
	}
	return out
}

func (p *part) name() string {
	if p.state == Cut {
		return "cut"
	}
	return string(p.state)
}

// mostNamed bounds a sentence.
const mostNamed = 5

func enumerate(names []string) string {
	if len(names) > mostNamed {
		return strings.Join(names[:mostNamed], ", ") + fmt.Sprintf(" and %d more", len(names)-mostNamed)
	}
	return strings.Join(names, ", ")
}

// Occupants is who is on a device, for no asker in particular.
func Occupants(list []Occupant) string {
	names := make([]string, len(list))
	for i, o := range list {
		names[i] = o.text(-1)
	}
	return enumerate(names)
}

// text is a process for people: "another user's python (uid 1001, pid 4242, 30 GiB)".
func (o Occupant) text(uid int) string {
	program := o.Comm
	if program == "" {
		program = "process"
	}
	details := []string{}
	if o.UID >= 0 {
		details = append(details, fmt.Sprint("uid ", o.UID))
	}
	details = append(details, fmt.Sprint("pid ", o.PID))
	if o.Bytes != nil {
		details = append(details, Size(*o.Bytes))
	}
	return fmt.Sprintf("%s%s (%s)", o.whose(uid), program, strings.Join(details, ", "))
}

func (o Occupant) whose(uid int) string {
	switch o.Owner.Kind {
	case OwnerTask:
		return "task " + o.Owner.Name + "'s "
	case OwnerService:
		return "service " + o.Owner.Name + "'s "
	case OwnerSlurm:
		return "Slurm job " + o.Owner.Name + "'s "
	case OwnerContainer:
		return "container " + o.Owner.Name + "'s "
	case OwnerUser: // below
	}
	switch {
	case uid < 0 || o.UID < 0:
		return ""
	case o.UID == uid:
		return "your own "
	default:
		return "another user's "
	}
}
