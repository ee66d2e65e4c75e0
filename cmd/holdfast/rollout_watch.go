package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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

// tell writes what is new in the trail whenever the hub says that the rollout moved. A hub that tells nobody is asked again and again.
func (d *desk) tell(ctx context.Context, hub *api.Client, id string) error {
	w := &rolloutWatcher{d: d, hub: hub, id: id}
	stopped, err := w.look(ctx)
	if err != nil || stopped {
		return w.outOf(ctx, err)
	}
	for {
		err := hub.Watch(ctx, api.WatchQuery{Kinds: []string{"rollouts"}, After: w.after}, func(n api.Note) error { return w.take(ctx, n) })
		var refused *api.Error
		switch {
		case errors.Is(err, errStopped):
			return nil
		case err != nil && !errors.As(err, &refused) && !errors.Is(err, api.ErrUnreachable):
			return w.outOf(ctx, err)
		}
		// The watch ended, or there is none: this look stands in for it.
		select {
		case <-ctx.Done():
			return w.outOf(ctx, ctx.Err())
		case <-time.After(pollEvery):
		}
		if stopped, err := w.look(ctx); err != nil || stopped {
			return w.outOf(ctx, err)
		}
	}
}

// pollEvery is how often a hub is asked that does not tell.
const pollEvery = time.Second

// errStopped ends the watch of a rollout that completed.
var errStopped = errors.New("the rollout has completed")

// rolloutWatcher tells one rollout.
type rolloutWatcher struct {
	d   *desk
	hub *api.Client
	id  string

	told   int    // entries of the trail, those that fell out of it included
	seen   bool   // the hub has told of it before
	silent bool   // and does not now, which was said
	after  string // the watch goes on behind it
}

// take looks where a note may be about the rollout: one that only says that the watch has begun, too.
func (w *rolloutWatcher) take(ctx context.Context, n api.Note) error {
	if n.ID != "" {
		w.after = n.ID
	}
	if n.Kind == "rollout" {
		var about struct{ ID string }
		if err := json.Unmarshal(n.Data, &about); err != nil {
			return fmt.Errorf("the hub's watch: %w", err)
		}
		if about.ID != w.id {
			return nil
		}
	}
	stopped, err := w.look(ctx)
	if err == nil && stopped {
		return errStopped
	}
	return err
}

// look asks where the rollout stands. That it was paused or aborted is an error, a hub that falls silent later is none.
func (w *rolloutWatcher) look(ctx context.Context) (stopped bool, err error) {
	e, err := w.hub.ExplainRollout(ctx, w.id)
	if err != nil {
		if !w.seen || ctx.Err() != nil || explain(err).code != exitUnreachable {
			return false, err
		}
		if !w.silent {
			w.silent = true
			w.d.sayf("%s; asking again", err)
		}
		return false, nil
	}
	w.seen, w.silent = true, false
	if w.told, err = w.d.tellTrail(e, w.told); err != nil {
		return false, err
	}
	switch e.Phase {
	case rollout.Completed:
		return true, nil
	case rollout.Paused, rollout.Aborted:
		return false, &failure{code: exitStopped, message: "rollout " + w.id + " is " + string(e.Phase) + ": " + e.Cause.Words(), hint: "holdfast rollout explain " + w.id}
	}
	return false, nil
}

// outOf says of what ended with the time that was given that it did.
func (w *rolloutWatcher) outOf(ctx context.Context, err error) error {
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return &failure{code: exitFailed, message: "rollout " + w.id + " did not stop in time"}
	}
	return err
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
