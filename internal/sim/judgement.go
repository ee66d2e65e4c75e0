package sim

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// What holds a site back, and what must be so for each: nothing new begins after its lease, outside its windows, in a blackout or while somebody at the site says
// that it is busy; what runs and what was begun is kept right all the same; an override is not fought while it lasts; an apply that affects the line counts as good
// only once the hub was reached after it; and a suspicious plan is carried out only where an order accepts the loss, or on the way back.

// siteZone is the time zone of the sites, and zoneAhead how far its clocks are ahead of UTC.
const (
	siteZone  = "Sim/Ahead"
	zoneAhead = 2 * time.Hour
)

func zone(name string) (*time.Location, error) {
	if name != siteZone {
		return nil, fmt.Errorf("time zone %q: not known", name)
	}
	return time.FixedZone(name, int(zoneAhead/time.Second)), nil
}

// slack is how far a site's trusted time may be from the true one: the way of the hub's word, and a clock that runs a tenth of a percent wrong since.
const slack = 15 * time.Second

// machine is the computer that the agent runs on. Its boot clock never goes back within a boot.
type machine struct {
	boots   int
	up      time.Duration // of this boot, at the start of this life
	lived   time.Time     // the start of this life
	asked   time.Time     // when the newest question was put that was answered
	heard   time.Time     // when an answer of the hub came in this life; zero: none did
	heardIn int           // the boot in which one came last
	mended  time.Time     // the disk
}

// start begins a life of the agent, maybe with one of the machine. before is the clock of the life before.
func (s *site) start(before clock) fleetsync.Boot {
	if s.w.cfg.Reboot == 0 {
		s.boots++ // nothing is known over a restart
		s.lived, s.heard = s.w.now, time.Time{}
		return fleetsync.Boot{}
	}
	s.up += time.Duration(float64(s.w.now.Sub(s.lived)) * before.rate)
	if s.boots == 0 || s.w.chance(s.w.cfg.Reboot) {
		s.boots++
		s.up = 0
	}
	s.lived, s.heard = s.w.now, time.Time{}
	return fleetsync.Boot{ID: fmt.Sprintf("boot-%d", s.boots), Up: s.up}
}

// answered notes that the hub's answer to a question reaches the agent.
func (s *site) answered(asked time.Time) {
	s.heard, s.heardIn = s.w.now, s.boots
	if asked.After(s.asked) {
		s.asked = asked
	}
}

// judged is what the invariants remember of what people and orders said.
type judged struct {
	kept      map[bundle.Name]orders   // as they are durable
	accepted  map[bundle.Digest]bool   // some durable order accepts the loss that going there is
	busy      map[string]time.Duration // durable and in force: which length, by who said so
	busyWas   map[string]time.Duration // the same, before the commit that is under way
	overrides map[string]time.Duration // durable, by object
	ends      map[string]time.Time     // of a length that was declared, by the true time
	said      map[string]time.Duration // what was declared last; 0: taken back
}

func newJudged() judged {
	return judged{kept: map[bundle.Name]orders{}, accepted: map[bundle.Digest]bool{}, ends: map[string]time.Time{}, said: map[string]time.Duration{}}
}

// forget is what a damaged store does.
func (j *judged) forget() {
	clear(j.kept)
	j.busy, j.busyWas, j.overrides = nil, nil, nil
}

func (j *judged) before() { j.busyWas = j.busy }

func declared(who string, length time.Duration) string { return fmt.Sprintf("%s %d", who, length) }

// character gives a release what a site judges by itself.
func (w *World) character(r *release) {
	r.empties = w.chance(w.cfg.Empties)
	if w.chance(w.cfg.Confirm) {
		r.confirm = time.Duration(1+w.rng.IntN(6)) * time.Minute
	}
}

// conditions gives an order a lease, and times at which it may begin. All of them are minutes of the first day.
func (w *World) conditions(b *fleetsync.AssignedBundle) {
	if w.cfg.Hold == 0 {
		return
	}
	b.AcceptLoss = w.rng.Float64() < 0.5
	if w.rng.Float64() < w.cfg.Hold {
		b.ApplyBy = w.now.Add(time.Duration(w.rng.IntN(30)) * time.Minute)
	}
	minute := int((w.now.Sub(w.begin) + zoneAhead) / time.Minute)
	from := minute + w.rng.IntN(20) - 10
	to := from + 1 + w.rng.IntN(15)
	switch p := w.rng.Float64(); {
	case p < w.cfg.Hold/2:
		b.Schedule = &fleetsync.Schedule{Windows: []fleetsync.Window{{From: fleetsync.ClockTime(from), To: fleetsync.ClockTime(to)}}}
	case p < w.cfg.Hold:
		b.Schedule = &fleetsync.Schedule{Blackouts: []fleetsync.Blackout{{From: w.moment(from), To: w.moment(to), Why: "stocktaking"}}}
	}
}

func (w *World) moment(minute int) (m fleetsync.Moment) {
	if err := m.UnmarshalText([]byte(w.begin.Add(time.Duration(minute) * time.Minute).Format("2006-01-02T15:04"))); err != nil {
		w.broken("%v", err)
	}
	return m
}

// open says whether an order's times allow a beginning, told from the words of the order alone.
func (w *World) open(b fleetsync.AssignedBundle, at time.Time) bool {
	if b.Schedule == nil {
		return true
	}
	local := at.Add(zoneAhead)
	for _, out := range b.Schedule.Blackouts {
		if text := local.Format("2006-01-02T15:04"); text >= written(out.From) && text < written(out.To) {
			return false
		}
	}
	minute := fleetsync.ClockTime(local.Sub(w.begin) / time.Minute)
	return len(b.Schedule.Windows) == 0 || minute >= b.Schedule.Windows[0].From && minute < b.Schedule.Windows[0].To
}

func written(m fleetsync.Moment) string {
	text, _ := m.MarshalText()
	return string(text)
}

// mayBegin checks a first apply at the moment when its intent is durable.
func (s *site) mayBegin(b fleetsync.AssignedBundle) {
	w, now := s.w, s.w.now
	what := fmt.Sprintf("%s begins %s@%s", s.id, b.Name, b.Version)
	known := s.heardIn == s.boots
	switch {
	case w.cfg.FirstApply == fleetsync.FirstApplyDeny && (s.heard.IsZero() || now.Sub(s.heard) > 8*time.Minute+slack):
		w.broken("R12: %s without a link, which its policy denies", what)
	case b.Schedule != nil && !known:
		w.broken("R17: %s, which has times, and nobody has told it the time", what)
	case !w.open(b, now) && !w.open(b, now.Add(slack)) && !w.open(b, now.Add(-slack)):
		w.broken("R17: %s outside its window, or in a blackout", what)
	case b.ApplyBy.IsZero():
	case !known && w.cfg.FirstApply != fleetsync.FirstApplyUntilProvenExpired:
		w.broken("R12: %s, which has a lease, and nobody has told it the time", what)
	case now.After(b.ApplyBy.Add(slack)) && (w.cfg.FirstApply != fleetsync.FirstApplyUntilProvenExpired || !s.heard.IsZero()):
		w.broken("R12: %s, whose lease ended at %s", what, b.ApplyBy.Format(timeFormat))
	}
	for _, who := range slices.Sorted(maps.Keys(s.truth.judged.busy)) {
		if _, was := s.truth.judged.busyWas[who]; was {
			w.broken("busy: %s, and %s says that the site is busy", what, who)
		}
	}
}

// suspicious says that the cluster's part of the agent halts an apply (internal/apply/safety.go).
func (s *site) suspicious(c *installed, r fleetsync.Run) bool {
	offers := s.w.hub.offers
	return !r.Bundle.AcceptLoss && c.applied != "" && c.applied != r.Bundle.Digest && (offers[r.Bundle.Digest].empties || offers[c.applied].empties)
}

// mayRun checks that a loss is accepted by an order, or part of the way back, and that what was quarantined or halted is not tried again.
func (s *site) mayRun(r fleetsync.Run, c *installed) {
	digest, j := r.Bundle.Digest, s.truth.judged
	if r.Remove {
		return
	}
	if r.Bundle.AcceptLoss && !j.accepted[digest] && !c.good[digest] && !c.finished[digest] {
		s.w.broken("halt: %s accepts the loss by %s@%s, which no order does", s.id, r.Bundle.Name, r.Bundle.Version)
	}
	if o := j.kept[r.Bundle.Name]; o.Quarantined == r.Spec && (o.Applied == nil || o.Applied.Bundle.Digest != digest) { // some of it may be all there is to keep
		s.w.broken("halt: %s tries %s@%s again, which is quarantined", s.id, r.Bundle.Name, r.Bundle.Version)
	}
}

func (o orders) String() string {
	text := string(o.Phase) + " " + o.Reason
	for i, x := range []*struct{ Bundle fleetsync.AssignedBundle }{o.Intent, o.Applied, o.Good} {
		if x != nil {
			text += fmt.Sprintf(" %s=%s", []string{"intent", "applied", "good"}[i], x.Bundle.Version)
		}
	}
	return text
}

// judgedRecord takes what a durable record says of a bundle: a release that affects the line is good only where the hub was reached after it was applied.
func (s *site) judgedRecord(name bundle.Name, o orders) {
	before := s.truth.judged.kept[name]
	if o.Confirm != nil && before.Confirm == nil {
		s.installed[name].confirming = s.w.now
	}
	s.truth.judged.kept[name] = o
	if s.w.traced {
		s.w.say("%s has of %s: %s", s.id, name, o)
	}
	if o.Good == nil || before.Good != nil && before.Good.Bundle.Digest == o.Good.Bundle.Digest {
		return
	}
	c, digest := s.installed[name], o.Good.Bundle.Digest
	if r := s.w.hub.offers[digest]; r.confirm > 0 && c.applied == digest && s.asked.Before(c.at) {
		s.w.broken("R14: %s takes %s@%s for good, and the hub was not reached since %s", s.id, name, r.version, c.at.Format(timeFormat))
	}
}

// confirmed checks that an apply which the hub was not reached after does not stand.
func (s *site) confirmed() {
	for _, name := range names {
		o, c := s.truth.judged.kept[name], s.installed[name]
		if o.Confirm == nil || o.Phase != fleetsync.PhaseSettling || o.Applied == nil || s.edge == nil || s.refusing {
			continue
		}
		patience := s.w.hub.offers[o.Applied.Bundle.Digest].confirm + 2*time.Minute
		if since := latest(c.confirming, s.lived, s.mended); s.w.now.Sub(since) > patience {
			s.w.broken("R14: %s keeps %s@%s, and the hub was not reached since %s", s.id, name, o.Applied.Bundle.Version, since.Format(timeFormat))
		}
	}
}

func latest(times ...time.Time) time.Time { return slices.MaxFunc(times, time.Time.Compare) }

// people are those at the site: one who says that it is busy, and one who edits an object and declares it.
func (s *site) people() {
	w, j := s.w, &s.truth.judged
	if w.chance(w.cfg.Busy) {
		in := fleetsync.Busy{Who: []string{"till", "oven"}[w.rng.IntN(2)], Reason: "customers", For: time.Second + time.Duration(w.rng.Int64N(int64(12*time.Minute)))}
		if w.rng.IntN(4) == 0 {
			in.For, in.Reason = 0, ""
		}
		s.after(time.Second, func() {
			j.said[in.Who] = in.For
			j.ends[declared(in.Who, in.For)] = w.now.Add(in.For)
			s.step(in)
		})
	}
	if !w.chance(w.cfg.Override) {
		return
	}
	name := names[w.rng.IntN(len(names))]
	object := objectOf(name)
	if w.rng.IntN(4) == 0 {
		s.after(time.Second, func() {
			j.said[object] = 0
			s.step(fleetsync.OverrideClear{Object: object, Who: "ann"})
		})
		return
	}
	in := fleetsync.OverrideSet{Object: object, Reason: "a trial", Who: "ann", For: time.Second + time.Duration(w.rng.Int64N(int64(12*time.Minute)))}
	s.after(time.Second, func() {
		j.said[object] = in.For
		j.ends[declared(object, in.For)] = w.now.Add(in.For)
		s.step(in)
		if s.installed[name].applied != "" {
			s.edit(name)
		}
	})
}

func objectOf(name bundle.Name) string { return "ConfigMap/" + string(name) + "/a" }

// busyRecord takes who says durably that the site is busy. None of them ends early.
func (s *site) busyRecord(raw []byte) {
	var signals []struct {
		Who  string
		Over bool
		Span struct{ Length time.Duration }
	}
	if err := json.Unmarshal(raw, &signals); err != nil {
		s.w.broken("%s: busy: %v", s.id, err)
	}
	now := map[string]time.Duration{}
	for _, signal := range signals {
		if !signal.Over {
			now[signal.Who] = signal.Span.Length
		}
	}
	s.endsEarly(s.truth.judged.busy, now)
	s.truth.judged.busy = now
}

// overridesRecord takes the exceptions that are durable.
func (s *site) overridesRecord(raw []byte) {
	var overrides map[string]struct {
		Span struct{ Length time.Duration }
	}
	if err := json.Unmarshal(raw, &overrides); err != nil {
		s.w.broken("%s: overrides: %v", s.id, err)
	}
	now := map[string]time.Duration{}
	for object, o := range overrides {
		now[object] = o.Span.Length
	}
	s.endsEarly(s.truth.judged.overrides, now)
	s.truth.judged.overrides = now
}

func (s *site) endsEarly(before, now map[string]time.Duration) {
	for _, what := range slices.Sorted(maps.Keys(before)) {
		if _, still := now[what]; !still && s.lasts(what, before[what]) {
			s.w.broken("%s: what was declared of %s for %s ends early", s.id, what, before[what])
		}
	}
}

// lasts says that what was declared last of something is not over yet, nor taken back.
func (s *site) lasts(what string, length time.Duration) bool {
	j := s.truth.judged
	return j.said[what] == length && j.ends[declared(what, length)].After(s.w.now.Add(slack))
}

// mayCorrect checks that what somebody declared is not fought.
func (s *site) mayCorrect(c fleetsync.Correct) {
	if length, is := s.truth.judged.overrides[c.Drift.Object]; is && s.lasts(c.Drift.Object, length) {
		s.w.broken("override: %s puts %s back while an override lasts", s.id, c.Drift.Object)
	}
}

// excused says that a site need not run what it is to: its times or its lease are over before it began, it halted, or it went back because the hub was not reached.
func (s *site) excused(name bundle.Name, want bundle.Digest) bool {
	o := s.truth.judged.kept[name]
	for _, b := range s.w.hub.disk.assignments[s.id].Bundles {
		if b.Name != name || b.Digest != want {
			continue
		}
		if o.Phase == fleetsync.PhaseHalted && !b.AcceptLoss || o.Phase == fleetsync.PhaseReverted && o.Reason == "NotConfirmed" {
			return true
		}
		if s.truth.begun[name][want] {
			return false
		}
		if !b.ApplyBy.IsZero() && !s.w.now.Before(b.ApplyBy) {
			return true
		}
		for ago := range 10 { // the last of its time may be too short
			if !s.w.open(b, s.w.now.Add(-time.Duration(ago)*time.Minute)) {
				return true
			}
		}
	}
	return false
}
