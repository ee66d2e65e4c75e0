package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// finding is one thing that doctor looked at.
type finding struct {
	About string `json:"about"` // context, hub, audit, or site NAME
	Grade string `json:"grade"` // ok, warning or fault
	Says  string `json:"says"`
	Hint  string `json:"hint,omitempty"`
}

// The grades.
const (
	gradeOK      = "ok"
	gradeWarning = "warning"
	gradeFault   = "fault"
)

// Limits of what is not worth a word.
const (
	maxSkew     = 5 * time.Second
	soonExpires = 7 * 24 * time.Hour
)

func newDoctor(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor [SITE]", Short: "Find what is wrong between this desk and the sites",
		Long: `Look along the whole way from this desk to the sites, or to one site: the context file, the hub's certificate and health, the clocks, the token, the audit
log, and of each site when it was heard from, what holds it, what it cannot apply and which of its events are missing. Each finding says what to do.

It ends with 1 where something is at fault, with 4 where the hub does not answer, and with 0 otherwise; warnings are no fault.`,
		Example: "  holdfast doctor\n  holdfast doctor shop-berlin -o json", Args: cobra.MaximumNArgs(1),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var only bundle.SiteID
		if len(args) > 0 {
			var err error
			if only, err = bundle.ParseSiteID(args[0]); err != nil {
				return err
			}
		}
		e := examination{d: d}
		end := e.desk(cmd.Context(), only)
		if err := d.show(*f, e.found, func() page { return findingsPage(e.found) }); err != nil {
			return err
		}
		if end == nil && e.faults() > 0 {
			end = &failure{code: exitFailed, message: fmt.Sprintf("%d %s", e.faults(), plural(e.faults(), "fault"))}
		}
		return end
	}
	return cmd
}

func findingsPage(found []finding) page {
	t := table{head: []string{"ABOUT", "", "FINDING", "WHAT TO DO"}}
	for _, f := range found {
		style := map[string]style{gradeOK: good, gradeWarning: warn, gradeFault: bad}[f.Grade]
		t.add(text(f.About), cell{f.Grade, style}, text(f.Says), cell{f.Hint, faint})
	}
	return page{tables: []table{t}}
}

// examination collects findings. What it cannot go on without ends it with an error.
type examination struct {
	d     *desk
	found []finding
}

func (e *examination) add(about, grade, says, hint string) {
	e.found = append(e.found, finding{about, grade, says, hint})
}

func (e *examination) faults() (n int) {
	for _, f := range e.found {
		if f.Grade == gradeFault {
			n++
		}
	}
	return n
}

// end is a fault that nothing can be looked at behind.
func (e *examination) end(about string, err error) error {
	f := explain(err)
	e.add(about, gradeFault, f.message, f.hint)
	return f
}

func (e *examination) desk(ctx context.Context, only bundle.SiteID) error {
	path, _ := e.d.contextPath()
	c, err := e.d.readContext()
	if err != nil {
		return e.end("context", err)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o077 != 0 {
		e.add("context", gradeFault, fmt.Sprintf("%s can be read by others (mode %o), and holds a token", path, info.Mode().Perm()), "chmod 600 "+path)
	} else if !errors.Is(err, fs.ErrNotExist) {
		e.add("context", gradeOK, fmt.Sprintf("%s is for %s", path, c.URL), "")
	}
	hub, err := e.d.hub()
	if err != nil {
		return e.end("context", err)
	}
	return e.hub(ctx, hub, only)
}

func (e *examination) hub(ctx context.Context, hub *api.Client, only bundle.SiteID) error {
	ready, err := hub.Ready(ctx)
	if err != nil {
		return e.end("hub", err)
	}
	if ready.Ready {
		e.add("hub", gradeOK, "answers with the certificate that the context names, and takes writes", "")
	} else {
		e.add("hub", gradeFault, "is not ready: "+ready.Said, "look into the hub's log; its disk or its bus is the usual cause")
	}
	if skew := e.d.now().Sub(ready.At); skew < -maxSkew || skew > maxSkew {
		e.add("clock", gradeWarning, fmt.Sprintf("this desk and the hub differ by %s", skew.Abs().Round(time.Second)), "put both clocks right: times in lists are off by that, and tokens end early or late")
	}
	version, err := hub.Version(ctx)
	if err != nil {
		return e.end("token", err)
	}
	for _, warning := range version.Warnings {
		e.add("hub", gradeWarning, warning, "look into the hub's log")
	}
	me, err := hub.WhoAmI(ctx)
	if err != nil {
		return e.end("token", err)
	}
	switch {
	case me.Expires != nil && me.Expires.Sub(e.d.now()) < soonExpires:
		e.add("token", gradeWarning, fmt.Sprintf("%s's token ends in %s", me.Name, api.Span(me.Expires.Sub(e.d.now()))), "ask an admin: holdfast user renew "+me.Name)
	default:
		e.add("token", gradeOK, fmt.Sprintf("you are %s, %s of %s", me.Name, me.Role, scopeText(me.Scope)), "")
	}
	if me.Scope.Empty() {
		if verdict, err := hub.VerifyAudit(ctx); err != nil {
			return e.end("audit", err)
		} else if verdict.Broken != "" {
			e.add("audit", gradeFault, "the audit log is broken: "+verdict.Broken, "compare it with a backup of the hub's store")
		}
	}
	if only != "" {
		site, err := hub.Site(ctx, only)
		if err != nil {
			return e.end("site "+string(only), err)
		}
		e.site(site)
		return nil
	}
	sites, err := hub.Sites(ctx, "")
	if err != nil {
		return e.end("sites", err)
	}
	well := 0
	for _, site := range sites {
		before := len(e.found)
		if site.Status != "gone" {
			e.site(site)
		}
		if len(e.found) == before+1 && e.found[before].Grade == gradeOK {
			well++
			e.found = e.found[:before]
		}
	}
	e.add("sites", gradeOK, fmt.Sprintf("%d of %d sites are well", well, len(sites)), "")
	return nil
}

// site looks at one site: it is well where nothing else is found.
func (e *examination) site(s api.Site) {
	about, before := "site "+string(s.ID), len(e.found)
	switch s.Status {
	case "held":
		e.add(about, gradeFault, "is held: two live copies of it were seen", "find the other copy; then holdfast site release, or holdfast site replace")
	case "revoked":
		e.add(about, gradeWarning, "is revoked", "holdfast site replace lets it come back with a new key")
	case "leaving":
		e.add(about, gradeWarning, "is leaving the fleet and has not said that it is empty", "wait, or holdfast site decommission without --remove-workloads")
	}
	if s.Cordoned != nil {
		e.add(about, gradeWarning, fmt.Sprintf("is cordoned by %s: %s", s.Cordoned.By, s.Cordoned.Why), "holdfast site uncordon "+string(s.ID))
	}
	switch s.Freshness {
	case api.Unknown:
		e.add(about, gradeFault, "was never heard from", "is its agent running, and does it reach the hub's bus? holdfast-edge status at the site says")
	case api.Stale:
		e.add(about, gradeFault, "was heard "+api.Age(e.d.now(), *s.LastSeen)+"; what it said is old", "is it online? It goes on with what it has and catches up by itself")
	}
	for _, alarm := range s.Alarms {
		e.add(about, gradeFault, alarm, "holdfast site show "+string(s.ID))
	}
	if s.State != nil {
		e.state(about, s)
	}
	if len(e.found) == before {
		e.add(about, gradeOK, "heard "+api.Age(e.d.now(), *s.LastSeen)+", nothing is wrong", "")
	}
}

func (e *examination) state(about string, s api.Site) {
	st := s.State
	if !st.Cluster.Reachable {
		e.add(about, gradeFault, "cannot reach its cluster: "+st.Cluster.Message, "look at the API server there")
	}
	if s.StateAt != nil {
		if skew := st.At.Sub(*s.StateAt); skew > time.Minute {
			e.add(about, gradeWarning, fmt.Sprintf("its clock is %s ahead", skew.Round(time.Second)), "put it right: windows and leases go by it")
		}
	}
	if s.Freshness == api.Fresh && st.Assignment < s.Sequence {
		e.add(about, gradeWarning, fmt.Sprintf("has assignment %d of %d", st.Assignment, s.Sequence), "it is told again with each heartbeat; wait for one")
	}
	if st.Outbox.Dropped > 0 {
		e.add(about, gradeWarning, fmt.Sprintf("dropped %d events", st.Outbox.Dropped), "the gap events say which and why: holdfast events --site "+string(s.ID))
	}
	for _, b := range st.Bundles {
		what := fmt.Sprintf("bundle %s is %s", b.Name, b.Phase)
		if b.Reason != "" || b.Message != "" {
			what += fmt.Sprintf(": %s %s", b.Reason, b.Message)
		}
		switch b.Phase {
		case fleetsync.PhaseRefused, fleetsync.PhaseFailed, fleetsync.PhaseUnhealthy, fleetsync.PhaseHalted, fleetsync.PhaseReverted, fleetsync.PhaseReverting:
			e.add(about, gradeFault, what, "holdfast site show "+string(s.ID))
		}
		if b.DriftCount > 0 {
			e.add(about, gradeWarning, fmt.Sprintf("bundle %s: %d objects drift", b.Name, b.DriftCount), "holdfast drift --site "+string(s.ID))
		}
	}
}
