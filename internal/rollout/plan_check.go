package rollout

import (
	"errors"
	"fmt"
	"math"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func (s *Spec) check() error {
	switch {
	case !oneOf(s.Subject, "", SubjectBundle, SubjectAgent):
		return fmt.Errorf("subject %.40q: want bundle or agent", s.Subject)
	case !oneOf(s.OnFailure, "", FailurePause, FailureRollback):
		return fmt.Errorf("onFailure %.40q: want pause or rollback", s.OnFailure)
	case !oneOf(s.Rollback, "", Backwards, AtOnce):
		return fmt.Errorf("rollback %.40q: want backwards or at-once", s.Rollback)
	case !oneOf(s.Offline.Before, "", BeforeSkip, BeforeWait):
		return fmt.Errorf("offline.before %.40q: want skip or wait", s.Offline.Before)
	case !oneOf(s.Offline.CatchUp, "", CatchUpNewest, CatchUpNever):
		return fmt.Errorf("offline.catchUp %.40q: want newest-completed or never", s.Offline.CatchUp)
	case s.Offline.DarkAfter != nil && *s.Offline.DarkAfter <= 0:
		return errors.New("offline.darkAfter: want more than nothing")
	case s.SitesPerHour < 0 || s.SitesPerHour > maxSites:
		return fmt.Errorf("sitesPerHour %d: want 0 (no bound) to %d", s.SitesPerHour, maxSites)
	case s.MaxFailures != nil && outside(*s.MaxFailures, 0, maxSites):
		return fmt.Errorf("maxFailures %d: want 0 to %d", *s.MaxFailures, maxSites)
	case len(s.Waves) > maxWaves:
		return fmt.Errorf("%d waves, more than the %d allowed", len(s.Waves), maxWaves)
	}
	for _, t := range []Target{s.Targets, s.Exclude} {
		if err := t.check(); err != nil {
			return err
		}
	}
	if err := (fleetsync.Schedule{Windows: s.Windows, Blackouts: s.Blackouts}).Check(); err != nil {
		return err
	}
	names := map[string]bool{}
	for i := range s.Waves {
		w := &s.Waves[i]
		if err := w.check(); err != nil {
			return fmt.Errorf("wave %.63q: %w", w.Name, err)
		}
		if names[w.Name] {
			return fmt.Errorf("wave %q is there twice", w.Name)
		}
		names[w.Name] = true
	}
	return nil
}

// checkSubject holds the agent to R21: at least one wave soaks before another one moves.
func (s *Spec) checkSubject() error {
	if s.Subject != SubjectAgent {
		return nil
	}
	if len(s.Waves) == 1 {
		return errors.New("the agent moves in two waves or more: one of them soaks before the others move")
	}
	if len(s.Waves) > 0 && s.Waves[0].Soak != nil && *s.Waves[0].Soak == 0 {
		return fmt.Errorf("wave %q: soak 0: the first wave of an agent upgrade has to soak", s.Waves[0].Name)
	}
	return nil
}

func (w *PlanWave) check() error {
	if _, err := bundle.ParseName(w.Name); err != nil {
		return errors.New("want a name of lower-case letters, digits and inner dashes, at most 63 characters")
	}
	switch {
	case w.MinSuccess != nil && outside(*w.MinSuccess, 1, maxSites):
		return fmt.Errorf("minSuccess %d: want 1 to %d", *w.MinSuccess, maxSites)
	case w.Ratio != nil && (math.IsNaN(*w.Ratio) || *w.Ratio < 0 || *w.Ratio > 1):
		return fmt.Errorf("ratio %v: want 0 to 1", *w.Ratio)
	case w.MaxFailures != nil && outside(*w.MaxFailures, 0, maxSites):
		return fmt.Errorf("maxFailures %d: want 0 to %d", *w.MaxFailures, maxSites)
	case w.Deadline != nil && *w.Deadline <= 0:
		return errors.New("deadline: want more than nothing")
	case w.ApplyBy != nil && *w.ApplyBy <= 0:
		return errors.New("applyBy: want more than nothing")
	case outside(w.Approvals, 0, maxApprovals):
		return fmt.Errorf("approvals %d: want 0 to %d", w.Approvals, maxApprovals)
	case len(w.Checks) > maxChecks:
		return fmt.Errorf("%d checks, more than the %d allowed", len(w.Checks), maxChecks)
	}
	names := map[string]bool{}
	for i := range w.Checks {
		if err := w.Checks[i].check(); err != nil {
			return err
		}
		if names[w.Checks[i].Name] {
			return fmt.Errorf("check %q is there twice", w.Checks[i].Name)
		}
		names[w.Checks[i].Name] = true
	}
	return w.Sites.check()
}

func (c *Check) check() error {
	switch _, err := bundle.ParseName(c.Name); {
	case err != nil:
		return fmt.Errorf("check %.80q: want a name of lower-case letters, digits and inner dashes", c.Name)
	case (c.URL == "") == (c.Query == ""):
		return fmt.Errorf("check %s: want either a url or a query", c.Name)
	case len(c.URL) > maxText || len(c.Query) > maxText:
		return fmt.Errorf("check %s: longer than %d bytes", c.Name, maxText)
	case c.Timeout != nil && *c.Timeout <= 0:
		return fmt.Errorf("check %s: timeout: want more than nothing", c.Name)
	}
	return nil
}

func (s *Selection) check() error {
	switch target := s.target(); {
	case outside(s.Percent, 0, 100):
		return fmt.Errorf("sites: percent %d: want 1 to 100", s.Percent)
	case outside(s.Count, 0, maxSites):
		return fmt.Errorf("sites: count %d: want 1 to %d", s.Count, maxSites)
	case s.Percent > 0 && s.Count > 0:
		return errors.New("sites: percent and count: want one of them")
	case s.All && (s.Percent > 0 || s.Count > 0 || !target.empty()):
		return errors.New("sites: all goes with nothing else")
	case len(s.Names) > 0 && (s.Percent > 0 || s.Count > 0 || s.Group != "" || s.Labels != ""):
		return errors.New("sites: names go with nothing else")
	default:
		return target.check()
	}
}

func (s *Selection) target() Target { return Target{Group: s.Group, Labels: s.Labels, Names: s.Names} }

func (t Target) empty() bool { return t.Group == "" && t.Labels == "" && len(t.Names) == 0 }

func (t Target) check() error {
	if t.Group != "" {
		if _, err := bundle.ParseName(t.Group); err != nil {
			return fmt.Errorf("sites: group %.80q: want lower-case letters, digits and inner dashes", t.Group)
		}
	}
	if _, err := bundle.ParseSelector(t.Labels); err != nil {
		return fmt.Errorf("sites: labels: %w", err)
	}
	if len(t.Names) > maxNames {
		return fmt.Errorf("sites: %d names, more than the %d allowed", len(t.Names), maxNames)
	}
	seen := map[bundle.SiteID]bool{}
	for _, name := range t.Names {
		if _, err := bundle.ParseSiteID(string(name)); err != nil {
			return fmt.Errorf("sites: %w", err)
		}
		if seen[name] {
			return fmt.Errorf("sites: %s is named twice", name)
		}
		seen[name] = true
	}
	return nil
}

func oneOf[T comparable](v T, allowed ...T) bool {
	for _, a := range allowed {
		if v == a {
			return true
		}
	}
	return false
}

func outside(n, low, high int) bool { return n < low || n > high }
