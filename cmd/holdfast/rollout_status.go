package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

func newRolloutStatus(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "status ROLLOUT", Short: "Show how far a rollout is, and what it waits for",
		Example: "  holdfast rollout status pos-1-4-2 --watch", Args: exactly("ROLLOUT"),
	}
	f, watch := outputFlag(cmd), watchFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		return d.watched(cmd.Context(), *f, watch, func(ctx context.Context) (any, func() page, error) {
			e, err := hub.ExplainRollout(ctx, args[0])
			e.Trail = nil
			return e, func() page { return explanationPage(e, d.now(), false) }, err
		})
	}
	return cmd
}

// explanationPage is where a rollout stands; with all of it, also what happened before.
func explanationPage(e rollout.Explanation, now time.Time, all bool) page {
	p := page{facts: []fact{{"Rollout", text(e.ID)}, {"Bundle", textf("%s@%s", e.Bundle, e.Version)}, {"Phase", phaseCell(e.Phase)}}}
	if e.Cause != nil {
		p.facts = append(p.facts, fact{"Cause", cell{e.Cause.Words(), warn}})
	}
	for _, hold := range e.Waits() {
		p.facts = append(p.facts, fact{"Waits", text(hold.Words())})
	}
	for _, move := range e.Moves {
		p.facts = append(p.facts, fact{"Next", text(move.Words())})
	}
	p.facts = append(p.facts, fact{"Exposed", text(exposureText(e.Exposure, now))})
	waves := table{head: []string{"WAVE", "STATE", "SITES", "OFFERED", "DONE", "WANTED", "LATE", "FAILED", "UNKNOWN", "AWAY", "AT ONCE"}}
	for _, w := range e.Waves {
		t := w.Tally
		failed := textf("%d of %d", t.Failed+t.Reverted, w.MaxFailures)
		if t.Failed+t.Reverted > w.MaxFailures {
			failed.style = bad
		}
		waves.add(text(w.Name), text(w.State), textf("%d", t.Size), textf("%d", t.InFlight), textf("%d", t.Succeeded), textf("%d", w.Wanted), textf("%d", t.Late), failed,
			textf("%d", t.Unknown), textf("%d", t.Away+t.Skipped), textf("%d of %d", t.Unavailable, w.MaxUnavailable))
	}
	p.tables = append(p.tables, waves)
	if len(e.Sites) > 0 {
		sites := table{head: []string{"SITE", "WAVE", "OUTCOME", "WHY", "OFFERED", "HEARD"}}
		for _, s := range e.Sites {
			why := s.Why
			if s.Held != "" {
				why = rollout.Reason{Code: s.Held}.Words()
				if s.Why != "" {
					why += ": " + s.Why
				}
			}
			sites.add(text(string(s.Site)), text(s.Wave), outcomeCell(s.Outcome), text(orDash(why)), text(api.Age(now, s.Offered)), text(api.Age(now, s.Heard)))
		}
		p.tables = append(p.tables, sites)
	}
	if all {
		trail := table{head: []string{"TIME", "BY", "WHAT", "WHY"}}
		for _, entry := range e.Trail {
			trail.add(trailRow(entry)...)
		}
		p.tables = append(p.tables, trail)
	}
	return p
}

func trailRow(e rollout.Entry) []cell {
	why := e.Why
	if e.Reason != nil {
		why = e.Reason.Words()
	}
	return []cell{text(e.At.UTC().Format("2006-01-02 15:04:05Z")), text(e.By), text(e.Act), text(why)}
}

func outcomeCell(o rollout.Outcome) cell {
	switch o {
	case rollout.Failed, rollout.Reverted:
		return cell{o.String(), bad}
	case rollout.Unknown:
		return cell{o.String(), warn}
	case rollout.Succeeded:
		return cell{o.String(), good}
	}
	return text(o.String())
}
