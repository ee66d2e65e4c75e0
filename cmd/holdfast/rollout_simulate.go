package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newRolloutSimulate(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "simulate NAME@VERSION", Short: "Play a rollout at the desk: the hub's own engine, the real fleet, imagined outcomes",
		Long: `Play a rollout at the desk: the hub's own engine, the real fleet as the hub sees it now, imagined outcomes and a clock that jumps. Sites that are not
named succeed. Approvals and outside verdicts are given at once. Nothing is changed. The exit code is 9 where the rollout would be paused or aborted.`,
		Example: "  holdfast rollout simulate pos@1.4.2 --plan canary.yaml --fail shop-berlin --dark shop-hamburg", Args: exactly("NAME@VERSION"),
	}
	f, plan := outputFlag(cmd), planFlag(cmd)
	imagined := map[rollout.Behaviour]*[]string{
		rollout.DoesFail:   cmd.Flags().StringSlice("fail", nil, "`sites` where it fails and is reverted"),
		rollout.DoesDie:    cmd.Flags().StringSlice("dark", nil, "`sites` that fall silent while they apply"),
		rollout.DoesSilent: cmd.Flags().StringSlice("silent", nil, "`sites` that fall silent at the offer"),
		rollout.DoesDecay:  cmd.Flags().StringSlice("decay", nil, "`sites` where it succeeds and turns unhealthy in the soak"),
	}
	after := cmd.Flags().Duration("takes", 5*time.Minute, "how long a site takes from the offer to its verdict")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ref, err := bundle.ParseRef(args[0])
		if err != nil {
			return err
		}
		_, read, err := plan.read(cmd.Context(), d)
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		fleet, err := hub.RolloutFleet(cmd.Context(), ref)
		if err != nil {
			return err
		}
		does, err := imagine(fleet, imagined, *after)
		if err != nil {
			return err
		}
		now := d.now().UTC().Truncate(time.Second)
		s, err := rollout.Simulate(now, rollout.Order{ID: "simulated", By: "desk", Plan: read, Bundle: fleet.Bundle}, factsOf(fleet), does, rollout.Imagined{After: rollout.Duration(*after)})
		if err != nil {
			return &failure{code: exitRefused, message: err.Error(), cause: err}
		}
		outcome := simulated{Phase: s.Rollout.Phase, Took: rollout.Duration(s.Ended.Sub(now)), Widest: s.Widest, Cause: s.Rollout.Cause, Steps: s.Steps, Waves: s.Rollout.Progress()}
		if err := d.show(*f, outcome, func() page { return simulatedPage(outcome, now) }); err != nil {
			return err
		}
		if outcome.Phase != rollout.Completed {
			return &failure{code: exitStopped, message: "the rollout would end " + string(outcome.Phase)}
		}
		return nil
	}
	return cmd
}

// imagine is what each named site does. A site that the fleet does not have is refused.
func imagine(fleet api.RolloutFleet, imagined map[rollout.Behaviour]*[]string, after time.Duration) (map[bundle.SiteID]rollout.Imagined, error) {
	known := map[bundle.SiteID]bool{}
	for _, s := range fleet.Sites {
		known[s.Site] = true
	}
	does := map[bundle.SiteID]rollout.Imagined{}
	for behaviour, sites := range imagined {
		for _, name := range *sites {
			id := bundle.SiteID(name)
			if !known[id] {
				return nil, &failure{code: exitNotFound, message: fmt.Sprintf("site %.80s is not in the fleet of %s", name, fleet.Bundle.Name), hint: "holdfast rollout plan shows the sites"}
			}
			if _, twice := does[id]; twice {
				return nil, &failure{code: exitUsage, message: fmt.Sprintf("site %s is imagined twice", id)}
			}
			does[id] = rollout.Imagined{Does: behaviour, After: rollout.Duration(after)}
		}
	}
	return does, nil
}

func factsOf(fleet api.RolloutFleet) rollout.Fleet {
	out := rollout.Fleet{Groups: fleet.Groups}
	for _, s := range fleet.Sites {
		f := rollout.Facts{
			Site: s.Site, Labels: s.Labels, Region: s.Region, LastSeen: s.LastSeen, Connected: s.Connected, Cordoned: s.Cordoned,
			Current: s.Current, Unresolved: s.Unresolved, Conflict: s.Conflict, Rollout: s.Rollout,
		}
		if zone, err := time.LoadLocation(s.Zone); err == nil {
			f.Zone = zone
		}
		out.Members = append(out.Members, f)
	}
	return out
}

// simulated is what a simulation shows.
type simulated struct {
	Phase  rollout.Phase           `json:"phase"`
	Cause  *rollout.Reason         `json:"cause,omitempty"`
	Took   rollout.Duration        `json:"took"`
	Widest int                     `json:"widest"` // most sites out of service at one time
	Waves  []rollout.WaveProgress  `json:"waves"`
	Steps  []rollout.SimulatedStep `json:"steps"`
}

func simulatedPage(s simulated, began time.Time) page {
	p := page{facts: []fact{{"Ends", phaseCell(s.Phase)}, {"After", text(s.Took.String())}, {"Out at once", textf("at most %d %s", s.Widest, plural(s.Widest, "site"))}}}
	if s.Cause != nil {
		p.facts = append(p.facts, fact{"Cause", cell{s.Cause.Words(), warn}})
	}
	steps := table{head: []string{"AFTER", "WHAT", "OFFERED TO"}}
	for _, step := range s.Steps {
		for i, move := range step.Moves {
			offered := ""
			if move.Code == rollout.MoveOffered {
				offered = some(words(step.Offers), 5)
			}
			at := ""
			if i == 0 {
				at = rollout.Duration(step.At.Sub(began).Truncate(time.Second)).String()
			}
			steps.add(text(at), text(move.Words()), text(offered))
		}
	}
	p.tables = []table{steps}
	return p
}
