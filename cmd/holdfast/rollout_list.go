package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

func newRolloutList(d *desk) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List rollouts, the newest first", Example: "  holdfast rollout list", Args: exactly()}
	f, limit := outputFlag(cmd), limitFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return showList(d, *f, hub.RolloutPages(cmd.Context(), *limit), func(rollouts []api.Rollout) page { return rolloutsPage(rollouts, d.now()) })
	}
	return cmd
}

func rolloutsPage(rollouts []api.Rollout, now time.Time) page {
	t := table{head: []string{"ROLLOUT", "BUNDLE", "PHASE", "WAVE", "SITES", "DONE", "FAILED", "BY", "STARTED", "CAUSE"}, none: "no rollouts"}
	for _, r := range rollouts {
		done, failed, wave := 0, 0, "-"
		for _, w := range r.Waves {
			done += w.Tally.Succeeded
			failed += w.Tally.Failed + w.Tally.Reverted
			if r.Ended == nil && (w.State == "open" || w.State == "soaking") {
				wave = w.Name + " " + w.State
			}
		}
		bundle := text(r.Bundle.String())
		if r.Back {
			bundle = text("back from " + r.Bundle.String())
		}
		t.add(text(r.ID), bundle, phaseCell(r.Phase), text(wave), textf("%d", r.Sites), textf("%d", done), textf("%d", failed), text(r.By), text(api.Age(now, r.Started)), cell{r.Cause, faint})
	}
	return page{tables: []table{t}}
}
