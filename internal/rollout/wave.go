package rollout

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Wave is a frozen list of sites that move together, with the plan's amounts made into numbers, and how far it has come. Which sites are in it
// is said by their records.
type Wave struct {
	Name           string        `json:"name"`
	Size           int           `json:"size"`           // at the start; who joins later is not in it
	Sites          bundle.Digest `json:"sites"`          // of the frozen list, see DigestOfSites
	MaxUnavailable int           `json:"maxUnavailable"` // sites
	PerRegion      int           `json:"perRegion,omitempty"`
	MaxFailures    int           `json:"maxFailures"`
	LeastReports   int           `json:"leastReports,omitempty"` // R5, of the first wave

	Approved []Approval `json:"approved,omitempty"`
	Opened   time.Time  `json:"opened,omitzero"`
	// From is when the deadline began to run: at the opening, or at the last resume.
	From   time.Time `json:"from,omitzero"`
	Quorum time.Time `json:"quorum,omitzero"` // since when there is one without a break; soak runs from here
	Passed time.Time `json:"passed,omitzero"`
	// Accepted failures were there when a person resumed: they do not count again.
	Accepted int      `json:"accepted,omitempty"`
	Verdicts []Answer `json:"verdicts,omitempty"`
}

// Approval is one approver's word for a wave.
type Approval struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// Fleet is what a plan is held against.
type Fleet struct {
	Members []Facts
	Groups  map[string]string // name -> label selector
}

// Layout is who would move when: the dry run of a plan, and what Start makes a rollout of.
type Layout struct {
	Plan  Plan
	Waves []LayoutWave
	// Left are the sites of the fleet that no wave has, each list by name.
	Untargeted, Excluded, Cordoned, Left []bundle.SiteID
	Fleet                                int // sites that the plan may move
}

// LayoutWave is one wave of a layout.
type LayoutWave struct {
	Wave
	Members []Facts // in the order of offers
	Offline int     // of these, away now
	Regions map[string]int
}

// BlastRadius is the most sites that can be out of service at one time because of the rollout: those of the widest wave.
func (l *Layout) BlastRadius() int {
	widest := 0
	for i := range l.Waves {
		widest = max(widest, min(l.Waves[i].MaxUnavailable, len(l.Waves[i].Members)))
	}
	return widest
}

// DigestOfSites names a list of sites, whatever its order.
func DigestOfSites(sites []bundle.SiteID) bundle.Digest {
	sorted := slices.Sorted(slices.Values(sites))
	h := sha256.New()
	for _, s := range sorted {
		h.Write([]byte(s))
		h.Write([]byte{'\n'})
	}
	return bundle.Digest(fmt.Sprintf("sha256:%x", h.Sum(nil)))
}

// rank orders sites for waves of a number or a share: the same in every rollout, so that a canary stays a canary.
func rank(site bundle.SiteID) uint64 {
	sum := sha256.Sum256([]byte(site))
	return binary.BigEndian.Uint64(sum[:8])
}

func byRank(a, b Facts) int {
	if ra, rb := rank(a.Site), rank(b.Site); ra != rb {
		return choose(ra < rb, -1, 1)
	}
	return strings.Compare(string(a.Site), string(b.Site))
}

// Freeze holds a plan against a fleet: defaults, then who is in which wave. It refuses waves that overlap, select nobody, exceed the fleet
// or could take everything at once.
func Freeze(plan Plan, fleet Fleet) (*Layout, error) {
	if err := plan.check(); err != nil {
		return nil, err
	}
	f, err := newFreezer(plan.withDefaults(), fleet)
	if err != nil {
		return nil, fmt.Errorf("plan %s: %w", plan.Metadata.Name, err)
	}
	if err := f.fill(); err != nil {
		return nil, fmt.Errorf("plan %s: %w", plan.Metadata.Name, err)
	}
	return &f.layout, nil
}

// freezer deals the sites of a fleet out to waves.
type freezer struct {
	layout Layout
	groups map[string]string
	free   []Facts // by rank
	owner  map[bundle.SiteID]string
}

func newFreezer(plan Plan, fleet Fleet) (*freezer, error) {
	f := &freezer{layout: Layout{Plan: plan}, groups: fleet.Groups, owner: map[bundle.SiteID]string{}}
	if len(fleet.Members) > maxSites {
		return nil, fmt.Errorf("the fleet has %d sites, more than the %d allowed", len(fleet.Members), maxSites)
	}
	targets, err := f.matcher(plan.Spec.Targets)
	if err != nil {
		return nil, err
	}
	excluded := func(Facts) bool { return false }
	if !plan.Spec.Exclude.empty() {
		if excluded, err = f.matcher(plan.Spec.Exclude); err != nil {
			return nil, err
		}
	}
	seen := map[bundle.SiteID]bool{}
	members := slices.SortedFunc(slices.Values(fleet.Members), byRank)
	for _, m := range members {
		switch {
		case seen[m.Site]:
			return nil, fmt.Errorf("the fleet has site %s twice", m.Site)
		case !targets(m):
			f.layout.Untargeted = append(f.layout.Untargeted, m.Site)
		case excluded(m):
			f.layout.Excluded = append(f.layout.Excluded, m.Site)
		case m.Cordoned:
			f.layout.Cordoned = append(f.layout.Cordoned, m.Site)
		default:
			f.free = append(f.free, m)
		}
		seen[m.Site] = true
	}
	f.layout.Fleet = len(f.free)
	if len(f.free) == 0 {
		return nil, fmt.Errorf("it selects nobody: of %d sites %d are not targeted, %d excluded, %d cordoned", len(members), len(f.layout.Untargeted),
			len(f.layout.Excluded), len(f.layout.Cordoned))
	}
	for _, list := range []*[]bundle.SiteID{&f.layout.Untargeted, &f.layout.Excluded, &f.layout.Cordoned} {
		slices.Sort(*list)
	}
	return f, nil
}

func (f *freezer) matcher(t Target) (func(Facts) bool, error) {
	group, known := f.groups[t.Group]
	if t.Group != "" && !known {
		return nil, fmt.Errorf("there is no group %s", t.Group)
	}
	inGroup, err := bundle.ParseSelector(group)
	if err != nil {
		return nil, fmt.Errorf("group %s: %w", t.Group, err)
	}
	labelled, err := bundle.ParseSelector(t.Labels)
	if err != nil {
		return nil, err
	}
	named := map[bundle.SiteID]bool{}
	for _, n := range t.Names {
		named[n] = true
	}
	return func(m Facts) bool {
		return (len(named) == 0 || named[m.Site]) && inGroup.Matches(m.Labels) && labelled.Matches(m.Labels)
	}, nil
}

// fill deals: first what is asked for by name, group or label, then numbers and shares in the order of waves, then what is left.
func (f *freezer) fill() error {
	waves := f.layout.Plan.Spec.Waves
	f.layout.Waves = make([]LayoutWave, len(waves))
	for pass := range 3 {
		for i := range waves {
			s := f.selection(i)
			if passOf(s) != pass {
				continue
			}
			members, err := f.pick(waves[i].Name, s)
			if err != nil {
				return fmt.Errorf("wave %s: %w", waves[i].Name, err)
			}
			f.layout.Waves[i].Members = members
			for _, m := range members {
				f.owner[m.Site] = waves[i].Name
			}
		}
	}
	if err := f.emergency(); err != nil {
		return err
	}
	for i := range waves {
		if err := f.settle(i); err != nil {
			return fmt.Errorf("wave %s: %w", waves[i].Name, err)
		}
	}
	for _, m := range f.free {
		if f.owner[m.Site] == "" {
			f.layout.Left = append(f.layout.Left, m.Site)
		}
	}
	slices.Sort(f.layout.Left)
	return nil
}

// selection is a wave's, or the default where it names none: a small first wave, all the rest for the last.
func (f *freezer) selection(i int) Selection {
	s := f.layout.Plan.Spec.Waves[i].Sites
	if !s.target().empty() || s.Percent > 0 || s.Count > 0 || s.All {
		return s
	}
	switch i {
	case 0:
		return Selection{Count: min(max(leastReports, f.layout.Fleet/100), defaultFirstWave)}
	case len(f.layout.Plan.Spec.Waves) - 1:
		return Selection{All: true}
	}
	return s
}

func passOf(s Selection) int {
	switch {
	case s.All:
		return 2
	case s.Percent > 0 || s.Count > 0:
		return 1
	}
	return 0
}

func (f *freezer) pick(wave string, s Selection) ([]Facts, error) {
	matches, err := f.matcher(s.target())
	if err != nil {
		return nil, err
	}
	if s.target().empty() && passOf(s) == 0 {
		return nil, errors.New("it selects nobody: say sites: a group, labels, names, percent, count or all")
	}
	var matched, free []Facts
	for _, m := range f.free {
		if !matches(m) {
			continue
		}
		matched = append(matched, m)
		if owner := f.owner[m.Site]; owner == "" {
			free = append(free, m)
		} else if passOf(s) == 0 {
			return nil, fmt.Errorf("it overlaps wave %s: both have site %s", owner, m.Site)
		}
	}
	if err := f.checkNames(s.Names, matched); err != nil {
		return nil, err
	}
	want := len(free)
	if s.Count > 0 {
		want = s.Count
	} else if s.Percent > 0 {
		want = max(1, int(math.Round(float64(len(matched)*s.Percent)/100)))
	}
	switch {
	case len(matched) == 0:
		return nil, errors.New("it selects nobody: no site that may move matches")
	case want > len(free):
		return nil, fmt.Errorf("it exceeds the fleet: it wants %d sites and %d are left", want, len(free))
	case want == 0:
		return nil, errors.New("it selects nobody: earlier waves have every site")
	}
	return free[:want], nil
}

func (f *freezer) checkNames(names []bundle.SiteID, matched []Facts) error {
	if len(names) == len(matched) {
		return nil
	}
	for _, n := range names {
		if !slices.ContainsFunc(matched, func(m Facts) bool { return m.Site == n }) {
			return fmt.Errorf("it exceeds the fleet: site %s is not there, not targeted, excluded or cordoned", n)
		}
	}
	return nil
}

// emergency leaves one canary in the first wave (R18); the others move with the second.
func (f *freezer) emergency() error {
	if !f.layout.Plan.Spec.Emergency {
		return nil
	}
	if len(f.layout.Waves) < 2 {
		return errors.New("an emergency goes through the same waves: want a canary and another wave")
	}
	canaries := f.layout.Waves[0].Members
	one := max(0, slices.IndexFunc(canaries, func(m Facts) bool { return m.Connected }))
	rest := slices.Concat(canaries[:one], canaries[one+1:], f.layout.Waves[1].Members)
	f.layout.Waves[0].Members = []Facts{canaries[one]}
	f.layout.Waves[1].Members = rest
	f.layout.Plan.Spec.Waves[0].MinSuccess = orPointer(nil, 1)
	return nil
}

// settle makes numbers of the wave's amounts and refuses what could take everything at once.
func (f *freezer) settle(i int) error {
	spec, w := f.layout.Plan.Spec.Waves[i], &f.layout.Waves[i]
	size := len(w.Members)
	ids := make([]bundle.SiteID, size)
	w.Regions = map[string]int{}
	for j, m := range w.Members {
		ids[j] = m.Site
		w.Regions[m.Region]++
		if !m.Connected {
			w.Offline++
		}
	}
	w.Name, w.Size, w.Sites = spec.Name, size, DigestOfSites(ids)
	w.MaxUnavailable = f.unavailable(i, size)
	if spec.MaxUnavailablePerRegion != nil {
		w.PerRegion = spec.MaxUnavailablePerRegion.of(size)
	}
	switch {
	case spec.MaxFailures != nil:
		w.MaxFailures = *spec.MaxFailures
	case f.layout.Plan.Spec.Subject == SubjectAgent && i > 0: // R21: one bad site never blocks the others
		w.MaxFailures = max(1, size/100)
	}
	if *spec.MinSuccess > size {
		return fmt.Errorf("minSuccess %d exceeds the %d sites it has", *spec.MinSuccess, size)
	}
	if i == 0 {
		if err := f.settleFirst(w); err != nil {
			return err
		}
	}
	if at := min(w.MaxUnavailable, size); at > defaultFirstWave && 2*at > f.layout.Fleet {
		return fmt.Errorf("it could take %d of %d sites at once: want a smaller maxUnavailable", at, f.layout.Fleet)
	}
	return nil
}

// unavailable is R10's: no default means all at once.
func (f *freezer) unavailable(i, size int) int {
	switch given := f.layout.Plan.Spec.Waves[i].MaxUnavailable; {
	case given != nil:
		return given.of(size)
	case i == 0:
		return min(size, defaultFirstWave)
	}
	return max(1, size/10)
}

// settleFirst is R5: a verdict on the first wave takes at least three reports, unless one site was asked for by name.
func (f *freezer) settleFirst(w *LayoutWave) error {
	size, s := len(w.Members), f.layout.Plan.Spec
	single := size == 1 && (len(s.Waves[0].Sites.Names) == 1 || s.Emergency)
	switch {
	case single:
		w.LeastReports = 1
		return nil
	case size == f.layout.Fleet:
		return fmt.Errorf("it could take everything at once: all %d sites are in the first wave; name one canary, or make the first wave smaller", size)
	case size < leastReports:
		return fmt.Errorf("the first wave has %d sites and needs %d reports; a one-site canary is asked for by name: sites: {names: […]}", size, leastReports)
	}
	w.LeastReports = max(leastReports, (size+1)/2)
	return nil
}
