package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
)

func newRolloutWatch(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use: "watch ROLLOUT", Short: "Tell what happens in a rollout until it stops",
		Long:    "Tell what happens in a rollout, a line a move, until it completes, which is exit code 0, or is paused or aborted, which is exit code 9.",
		Example: "  holdfast rollout watch pos-1-4-2 --timeout 2h", Args: exactly("ROLLOUT"),
	}
	timeout := cmd.Flags().Duration("timeout", 0, "give up after so long (default: never); exit code 1")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if *timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, *timeout)
			defer cancel()
		}
		return d.tell(ctx, hub, args[0])
	}
	return cmd
}

// tell asks again and again, and writes what is new in the trail.
func (d *desk) tell(ctx context.Context, hub *api.Client, id string) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	told, silent := 0, false // entries, those that fell out of the trail included
	for first := true; ; first = false {
		e, err := hub.ExplainRollout(ctx, id)
		switch {
		case ctx.Err() != nil:
		case err != nil && (first || explain(err).code != exitUnreachable):
			return err
		case err != nil && !silent:
			d.sayf("%s; asking again", err)
		}
		if silent = err != nil; err == nil {
			if told, err = d.tellTrail(e, told); err != nil {
				return err
			}
			switch e.Phase {
			case rollout.Completed:
				return nil
			case rollout.Paused, rollout.Aborted:
				return &failure{code: exitStopped, message: "rollout " + id + " is " + string(e.Phase) + ": " + e.Cause.Words(), hint: "holdfast rollout explain " + id}
			}
		}
		select {
		case <-ctx.Done():
			return &failure{code: exitFailed, message: "rollout " + id + " did not stop in time"}
		case <-ticker.C:
		}
	}
}

func (d *desk) tellTrail(e rollout.Explanation, told int) (int, error) {
	for _, entry := range e.Trail[min(max(told-e.TrailLost, 0), len(e.Trail)):] {
		row := trailRow(entry)
		for i := range row {
			row[i].text = printable(row[i].text)
		}
		if _, err := d.out.Write([]byte(line(row, []int{20, 12, 18, 0}, d.width, d.colour))); err != nil {
			return told, err
		}
	}
	return e.TrailLost + len(e.Trail), nil
}
