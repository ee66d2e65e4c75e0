package main

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func newEvents(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events",
		Short: "List what happened at the sites, oldest first",
		Long: `List what happened at the sites, oldest first. AT is the site's clock; an event that reached the hub much later says so.
--since counts from when the hub received an event, so that what a site tells after weeks away is not missed.
With --follow and -o json, each event is a document on a line of its own.`,
		Example: "  holdfast events --site shop-berlin --since 2h\n  holdfast events --follow",
		Args:    exactly(),
	}
	f := outputFlag(cmd)
	site := cmd.Flags().String("site", "", "only this `site`")
	since := cmd.Flags().String("since", "", "received since: an age such as 90m, 2h or 3d, or a `time` in RFC 3339")
	limit := cmd.Flags().Int("limit", 100, "the newest so many")
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with new events until interrupted")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		query := api.EventQuery{Site: bundle.SiteID(*site), Limit: *limit}
		if *site != "" {
			if _, err := bundle.ParseSiteID(*site); err != nil {
				return err
			}
		}
		if *limit < 1 {
			return usagef(cmd, "--limit %d: want 1 or more", *limit)
		}
		if *since != "" {
			at, err := parseSince(*since, d.now())
			if err != nil {
				return err
			}
			query.Since = at
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		if *follow {
			return d.follow(cmd.Context(), *f, hub, query)
		}
		events, err := hub.Events(cmd.Context(), query)
		if err != nil {
			return err
		}
		if events == nil {
			events = []api.SiteEvent{}
		}
		return d.show(*f, events, func() page { return page{tables: []table{eventsTable(events)}} })
	}
	return cmd
}

// parseSince reads an age or a time.
func parseSince(s string, now time.Time) (time.Time, error) {
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	var days int
	if n, err := fmt.Sscanf(s, "%dd", &days); n == 1 && err == nil && s == fmt.Sprintf("%dd", days) && days >= 0 {
		return now.AddDate(0, 0, -days), nil
	}
	if age, err := time.ParseDuration(s); err == nil && age >= 0 {
		return now.Add(-age), nil
	}
	return time.Time{}, fmt.Errorf("--since %q: want an age such as 90m, 2h or 3d, or a time such as 2026-03-01T12:00:00Z", s)
}

// eventID is the identity of an event in the fleet.
type eventID struct {
	site     bundle.SiteID
	epoch    string
	sequence uint64
}

// followLimit bounds one look while following; it is the most a hub gives.
const followLimit = 5000

// follow shows events as the hub gets them. It asks again from the newest it has seen, inclusive, and knows those it has shown.
func (d *desk) follow(ctx context.Context, f format, hub *api.Client, query api.EventQuery) error {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	shown, silent := map[eventID]time.Time{}, false
	for first := true; ; first = false {
		events, err := hub.Events(ctx, query)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (first || explain(err).code != exitUnreachable):
			return err
		case err != nil && !silent:
			d.sayf("%s; asking again", err)
		}
		silent = err != nil
		if len(events) == followLimit && !first {
			d.sayf("warning: more than %d events came at once; holdfast events --since tells those that are not shown here", followLimit)
		}
		for _, e := range events {
			id := eventID{e.Site, e.Epoch, e.Sequence}
			if _, old := shown[id]; old {
				continue
			}
			shown[id] = e.Received
			if e.Received.After(query.Since) {
				query.Since = e.Received
			}
			if err := d.showEvent(f, e); err != nil {
				return err
			}
		}
		query.Limit = followLimit
		forget(shown, query.Since)
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}

// forget drops what cannot come again.
func forget(shown map[eventID]time.Time, since time.Time) {
	for id, received := range shown {
		if received.Before(since) {
			delete(shown, id)
		}
	}
}

func (d *desk) showEvent(f format, e api.SiteEvent) error {
	switch f {
	case formatJSON:
		raw, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
		_, err = d.out.Write(append(raw, '\n'))
		return err
	case formatYAML:
		raw, err := encode(f, e)
		if err != nil {
			return err
		}
		_, err = d.out.Write(append([]byte("---\n"), raw...))
		return err
	}
	row := eventRow(e)
	for i := range row {
		row[i].text = printable(row[i].text)
	}
	_, err := d.out.Write([]byte(line(row, []int{20, 16, 24, 16, 0}, d.width, d.colour)))
	return err
}
