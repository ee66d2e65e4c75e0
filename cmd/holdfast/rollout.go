package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newRollout(d *desk) *cobra.Command {
	return group("rollout", "Move the fleet to a bundle version in waves",
		newRolloutPlan(d), newRolloutSimulate(d), newRolloutStart(d), newRolloutList(d), newRolloutStatus(d), newRolloutWatch(d), newRolloutExplain(d),
		newRolloutPause(d), newRolloutResume(d), newRolloutApprove(d), newRolloutAbort(d), newRolloutRollback(d))
}

// planned are the arguments of verbs that hold a plan against the fleet.
type planned struct{ plan string }

func planFlag(cmd *cobra.Command) *planned {
	p := &planned{}
	cmd.Flags().StringVarP(&p.plan, "plan", "p", "", "`file` with a RolloutPlan in YAML or JSON, - for stdin, or the name of a plan that the hub keeps (default: a small canary wave, then everybody else)")
	return p
}

// defaultPlan leaves everything to the engine.
const defaultPlan = `{"apiVersion":"` + rollout.APIVersion + `","kind":"` + rollout.KindPlan + `","metadata":{"name":"default"},"spec":{}}`

// stored is the name of the plan where it is one that the hub keeps. A file without an ending is given as ./file.
func (p *planned) stored() (bundle.Name, bool) {
	name, err := bundle.ParseName(p.plan)
	return name, err == nil
}

// read gives the plan in JSON, checked as far as that goes without a fleet.
func (p *planned) read(ctx context.Context, d *desk) (json.RawMessage, rollout.Plan, error) {
	raw := []byte(defaultPlan)
	if name, stored := p.stored(); stored {
		hub, err := d.hub()
		if err != nil {
			return nil, rollout.Plan{}, err
		}
		kept, err := hub.Plan(ctx, name)
		if err != nil {
			return nil, rollout.Plan{}, withHint(err, "a plan in a file is given with its ending or its folder, for example ./"+string(name))
		}
		raw = kept.Plan
	} else if p.plan != "" {
		text, err := readLimited(p.plan, rollout.MaxPlanSize)
		if err != nil {
			return nil, rollout.Plan{}, err
		}
		if raw, err = yaml.YAMLToJSONStrict(text); err != nil {
			return nil, rollout.Plan{}, fmt.Errorf("%s: %w", p.plan, err)
		}
	}
	plan, err := rollout.DecodePlan(raw)
	if err != nil {
		return nil, plan, &failure{code: exitRefused, message: err.Error(), cause: err}
	}
	return raw, plan, nil
}

// acceptingLoss is a plan whose offers accept a loss.
func acceptingLoss(plan json.RawMessage) (json.RawMessage, error) {
	var whole, spec map[string]json.RawMessage
	if err := json.Unmarshal(plan, &whole); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(whole["spec"], &spec); err != nil {
		return nil, err
	}
	if spec == nil {
		spec = map[string]json.RawMessage{}
	}
	spec["acceptLoss"] = json.RawMessage("true")
	var err error
	if whole["spec"], err = json.Marshal(spec); err != nil {
		return nil, err
	}
	return json.Marshal(whole)
}

// layoutPage is who would move when.
func layoutPage(l api.RolloutLayout, sites bool) page {
	p := page{facts: []fact{
		{"Bundle", text(l.Bundle.String())}, {"Plan", text(l.Plan)}, {"Sites", textf("%d in %d waves", l.Fleet-len(l.Left), len(l.Waves))},
		{"Blast radius", textf("at most %d %s out of service at one time", l.BlastRadius, plural(l.BlastRadius, "site"))},
	}}
	for _, warning := range l.Warnings {
		p.facts = append(p.facts, fact{"Warning", cell{warning, warn}})
	}
	waves := table{head: []string{"WAVE", "SITES", "AWAY", "AT ONCE", "WANTS", "FAILURES", "SOAK", "DEADLINE", "APPROVALS", "CHECKS"}}
	members := table{head: []string{"SITE", "WAVE"}}
	for _, w := range l.Waves {
		waves.add(text(w.Name), textf("%d", len(w.Sites)), textf("%d", w.Offline), textf("%d", w.MaxUnavailable), textf("%d and %.0f%%", w.MinSuccess, 100*w.Ratio),
			textf("%d", w.MaxFailures), text(w.Soak.String()), text(w.Deadline.String()), textf("%d", w.Approvals), text(orDash(strings.Join(w.Checks, ","))))
		for _, site := range w.Sites {
			members.add(text(string(site)), text(w.Name))
		}
	}
	for _, left := range []struct {
		why   string
		sites []bundle.SiteID
	}{{"excluded", l.Excluded}, {"cordoned", l.Cordoned}, {"in no wave", l.Left}} {
		if n := len(left.sites); n > 0 {
			p.facts = append(p.facts, fact{"Not moved", textf("%d %s: %s", n, left.why, some(words(left.sites), 5))})
		}
	}
	p.tables = []table{waves}
	if sites {
		p.tables = append(p.tables, members)
	}
	if len(l.Unfit) > 0 {
		unfit := table{head: []string{"CANNOT HAVE IT", "WHY"}}
		for _, u := range l.Unfit {
			unfit.add(text(string(u.Site)), cell{u.Why, warn})
		}
		p.tables = append(p.tables, unfit)
	}
	return p
}

func words(sites []bundle.SiteID) []string {
	out := make([]string, len(sites))
	for i, s := range sites {
		out[i] = string(s)
	}
	return out
}

func phaseCell(phase rollout.Phase) cell {
	switch phase {
	case rollout.Completed:
		return cell{string(phase), good}
	case rollout.Paused:
		return cell{string(phase), warn}
	case rollout.Aborted:
		return cell{string(phase), bad}
	}
	return text(string(phase))
}

// exposureText says what an abort can and cannot promise.
func exposureText(e rollout.Exposure, now time.Time) string {
	s := fmt.Sprintf("%d %s taken it, %d %s out", e.Taken, has(e.Taken), e.Outstanding, plural(e.Outstanding, "offer"))
	if e.MayApply > 0 {
		s += fmt.Sprintf(", %d of these may still be applied by sites that do not hear of a withdrawal, for %s", e.MayApply, api.Span(e.LastLease.Sub(now)))
	}
	return s
}

func has(n int) string {
	if n == 1 {
		return "site has"
	}
	return "sites have"
}

// actOn makes a verb that acts on one rollout. One that takes something away is shown first, and wants --yes or a yes.
func actOn(d *desk, cmd *cobra.Command, act string, takes bool, request func(cmd *cobra.Command) (api.RolloutAct, error)) *cobra.Command {
	cmd.Args = exactly("ROLLOUT")
	f := outputFlag(cmd)
	look := &foresight{}
	if takes {
		look = destructive(cmd)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		asked, err := request(cmd)
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		if takes && (look.dry || !look.yes) {
			impact, err := hub.Foresee().ActOnRollout(cmd.Context(), args[0], act, asked)
			if err != nil {
				return err
			}
			if look.dry {
				return d.showImpact(*f, impact)
			}
			e, err := hub.ExplainRollout(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			d.sayf("rollout %s of %s@%s is %s: %s", e.ID, e.Bundle, e.Version, e.Phase, exposureText(e.Exposure, d.now()))
			if err := d.drawImpact(impact); err != nil {
				return err
			}
			if err := d.agree(false); err != nil {
				return err
			}
		}
		acted, err := hub.ActOnRollout(cmd.Context(), args[0], act, asked)
		if err != nil {
			return err
		}
		return d.show(*f, acted, func() page { return actedPage(acted, d.now()) })
	}
	return cmd
}

func actedPage(a api.RolloutActed, now time.Time) page {
	p := page{facts: []fact{{"Rollout", text(a.Rollout.ID)}, {"Phase", phaseCell(a.Rollout.Phase)}}}
	if a.Rollout.Cause != "" {
		p.facts = append(p.facts, fact{"Cause", text(a.Rollout.Cause)})
	}
	p.facts = append(p.facts, fact{"Before", text(exposureText(a.Before, now))}, fact{"After", text(exposureText(a.After, now))})
	if a.Rollback != nil {
		p.facts = append(p.facts, fact{"Rollback", textf("%s, %d sites", a.Rollback.ID, a.Rollback.Sites)})
	}
	if len(a.Losses) > 0 {
		p.tables = append(p.tables, lossTable(a.Losses, "LOST"))
	}
	return p
}

// whyFlag adds --why.
func whyFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("why", "", "reason, for the audit log and whoever looks next")
}

// because is the request of acts that have a reason and need it.
func because(why *string) func(*cobra.Command) (api.RolloutAct, error) {
	return func(cmd *cobra.Command) (api.RolloutAct, error) {
		if *why == "" {
			return api.RolloutAct{}, usagef(cmd, "--why is needed")
		}
		return api.RolloutAct{Why: *why}, nil
	}
}

// startRequest is a request with the arguments of a verb.
func startRequest(ctx context.Context, hub *api.Client, named string, plan json.RawMessage, id string, dry bool) (api.RolloutStart, error) {
	ref, err := bundle.ParseRef(named)
	if err != nil {
		return api.RolloutStart{}, err
	}
	return hub.StartRollout(ctx, api.RolloutRequest{ID: id, Bundle: ref, Plan: plan, DryRun: dry})
}
