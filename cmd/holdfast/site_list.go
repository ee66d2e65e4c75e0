package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

func newSiteList(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List sites: when they were heard from, what they run, their drift",
		Example: "  holdfast site list --labels region=eu --watch",
		Args:    exactly(),
	}
	f := outputFlag(cmd)
	labels := cmd.Flags().StringP("labels", "l", "", "label `selector`, for example region=eu,tier!=test")
	wide := cmd.Flags().Bool("wide", false, "also agents, clocks, bytes on the lines and events that wait")
	limit := limitFlag(cmd)
	watch := watchFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		hub, err := d.hub()
		if err != nil {
			return err
		}
		view := func(sites []api.Site) page {
			p := sitesPage(sites, d.now())
			if *wide {
				p.tables = append(p.tables, wideTable(sites, d.now()))
			}
			return p
		}
		if !watch.on {
			return showList(d, *f, hub.SitePages(cmd.Context(), *labels, *limit), view)
		}
		return d.watched(cmd.Context(), *f, watch, func(ctx context.Context) (any, func() page, error) {
			sites, err := api.Whole(hub.SitePages(ctx, *labels, *limit))
			if sites == nil {
				sites = []api.Site{}
			}
			return sites, func() page { return view(sites) }, err
		})
	}
	return cmd
}

// watching is whether and how often a verb looks again.
type watching struct {
	on    bool
	every time.Duration
}

func watchFlags(cmd *cobra.Command) *watching {
	w := &watching{}
	cmd.Flags().BoolVarP(&w.on, "watch", "w", false, "look again and again until interrupted")
	cmd.Flags().DurationVar(&w.every, "interval", 2*time.Second, "how often --watch looks")
	return w
}

// look asks once.
type look func(context.Context) (value any, view func() page, err error)

// watched shows what look finds: once, or for ever. On a terminal the page is drawn over the last one, so that ages stay right;
// elsewhere it is written again only when the data changed. While watching, a silent hub is said once and asked again.
func (d *desk) watched(ctx context.Context, f format, w *watching, ask look) error {
	value, view, err := ask(ctx)
	if err != nil || !w.on {
		if err != nil {
			return err
		}
		return d.show(f, value, view)
	}
	ticker := time.NewTicker(max(w.every, 100*time.Millisecond))
	defer ticker.Stop()
	last, silent := "", false
	for {
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil && explain(err).code != exitUnreachable:
			return err
		case err != nil:
			if !silent {
				d.sayf("%s; asking again", err)
			}
			silent = true
		default:
			silent = false
			if last, err = d.redraw(f, value, view, last); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		value, view, err = ask(ctx)
	}
}

// redraw shows a value if it is new or the page can be drawn over, and gives what to compare the next one with.
func (d *desk) redraw(f format, value any, view func() page, last string) (string, error) {
	raw, err := encode(formatJSON, value)
	if err != nil {
		return last, err
	}
	over := f == formatTable && d.width > 0
	if string(raw) == last && !over {
		return last, nil
	}
	if over {
		if _, err := d.out.Write([]byte("\x1b[H\x1b[2J")); err != nil {
			return last, err
		}
	}
	return string(raw), d.show(f, value, view)
}
