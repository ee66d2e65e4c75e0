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
		Short: "Tell what happened at the sites, oldest first",
		Long: `Tell what happened at the sites, oldest first, with what it means together: periods without the hub, events that are not here and why, stores that began anew.

AT is the site's time and CLOCK what it is worth: trusted (the hub told it), since-boot (counted since the hub told it) or untrusted, with how far the
clock was off where that is known. HEARD is how much later the hub had it. --since counts from then, so that what a site tells after weeks away is not missed.

With -o json a line that is no event has "mark" instead. With --follow and -o json, each line is a document of its own.`,
		Example: "  holdfast events --site shop-berlin --since 2h\n  holdfast events --follow",
		Args:    exactly(),
	}
	f := outputFlag(cmd)
	site := cmd.Flags().String("site", "", "only this `site`")
	since := cmd.Flags().String("since", "", "received since: an age such as 90m, 2h or 3d, or a `time` in RFC 3339")
	limit := cmd.Flags().Int("limit", 100, "the newest so many")
	cursor := cmd.Flags().String("cursor", "", "go on with the older events behind the list that gave this `word`")
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with new events until interrupted")
	cmd.MarkFlagsMutuallyExclusive("cursor", "follow")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		query := api.EventQuery{Site: bundle.SiteID(*site), Limit: *limit, After: *cursor}
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
			return (&follower{d: d, hub: hub, f: *f, query: query}).run(cmd.Context())
		}
		lines, older, err := storyOf(cmd.Context(), hub, query)
		if err != nil {
			return err
		}
		if older != "" {
			defer d.sayf("older events: --cursor %s", older)
		}
		return d.show(*f, lines, func() page { return page{tables: []table{storyTable(lines)}} })
	}
	return cmd
}

// storyOf is the story of one page. What is under way now belongs to the newest page only.
func storyOf(ctx context.Context, hub *api.Client, query api.EventQuery) (lines []api.StoryLine, older string, err error) {
	about, err := aboutSite(ctx, hub, query.Site)
	if err != nil {
		return nil, "", err
	}
	events, older, err := hub.EventPage(ctx, query)
	if err != nil {
		return nil, "", err
	}
	story := api.NewStory(about...)
	lines = story.Tell(events...)
	if query.After == "" && len(events) > 0 {
		lines = append(lines, story.End(about...)...)
	}
	return lines, older, nil
}

// aboutSite is what the hub knows of the one site that the story is about; of a whole fleet it would be too much.
func aboutSite(ctx context.Context, hub *api.Client, site bundle.SiteID) ([]api.Site, error) {
	if site == "" {
		return nil, nil
	}
	one, err := hub.Site(ctx, site)
	return []api.Site{one}, err
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

// followLimit bounds one list while following; it is the most a hub gives.
const followLimit = 5000

// follower shows events as the hub gets them: it watches, and lists what came before the watch and what a watch missed. It knows what it has shown.
type follower struct {
	d     *desk
	hub   *api.Client
	f     format
	query api.EventQuery

	story *api.Story
	shown map[eventID]time.Time // by when it was received
	after string                // the watch goes on behind it
}

func (w *follower) run(ctx context.Context) error {
	about, err := aboutSite(ctx, w.hub, w.query.Site)
	if err != nil {
		return err
	}
	w.story, w.shown = api.NewStory(about...), map[eventID]time.Time{}
	for first, silent := true, false; ; {
		err := w.hub.Watch(ctx, api.WatchQuery{Kinds: []string{"events"}, Site: w.query.Site, After: w.after}, func(n api.Note) error {
			silent = false
			if list := first || n.Kind == "reset"; list { // the watch is on: what happens from here on comes by it
				if err := w.list(ctx, first); err != nil {
					return err
				}
				first = false
				w.story.Live()
			}
			return w.take(n)
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && (first || explain(err).code != exitUnreachable):
			return err
		case !silent:
			silent = true
			d := "the hub ended the watch"
			if err != nil {
				d = err.Error()
			}
			w.d.sayf("%s; watching again", d)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// list tells what is there already.
func (w *follower) list(ctx context.Context, first bool) error {
	events, err := w.hub.Events(ctx, w.query)
	if err != nil {
		return err
	}
	if len(events) == followLimit && !first {
		w.d.sayf("warning: more than %d events came at once; holdfast events --since tells those that are not shown here", followLimit)
	}
	w.query.Limit = followLimit
	return w.tell(events...)
}

// take tells one note of the watch.
func (w *follower) take(n api.Note) error {
	if n.ID != "" {
		w.after = n.ID
	}
	if n.Kind != "event" {
		return nil
	}
	var e api.SiteEvent
	if err := json.Unmarshal(n.Data, &e); err != nil {
		return fmt.Errorf("the hub's watch: %w", err)
	}
	return w.tell(e)
}

func (w *follower) tell(events ...api.SiteEvent) error {
	fresh := make([]api.SiteEvent, 0, len(events))
	for _, e := range events {
		id := eventID{e.Site, e.Epoch, e.Sequence}
		if _, old := w.shown[id]; old {
			continue
		}
		w.shown[id] = e.Received
		if e.Received.After(w.query.Since) {
			w.query.Since = e.Received
		}
		fresh = append(fresh, e)
	}
	for _, line := range w.story.Tell(fresh...) {
		if err := w.d.showLine(w.f, line); err != nil {
			return err
		}
	}
	forget(w.shown, w.query.Since)
	return nil
}

// forget drops what cannot come again.
func forget(shown map[eventID]time.Time, since time.Time) {
	for id, received := range shown {
		if received.Before(since) {
			delete(shown, id)
		}
	}
}

func (d *desk) showLine(f format, told api.StoryLine) error {
	switch f {
	case formatJSON:
		raw, err := json.Marshal(told)
		if err != nil {
			return fmt.Errorf("output: %w", err)
		}
		_, err = d.out.Write(append(raw, '\n'))
		return err
	case formatYAML:
		raw, err := encode(f, told)
		if err != nil {
			return err
		}
		_, err = d.out.Write(append([]byte("---\n"), raw...))
		return err
	}
	row := storyRow(told)
	for i := range row {
		row[i].text = printable(row[i].text)
	}
	_, err := d.out.Write([]byte(line(row, []int{20, 10, 5, 16, 24, 16, 0}, d.width, d.colour)))
	return err
}
