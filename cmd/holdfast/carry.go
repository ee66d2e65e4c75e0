package main

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func newSiteExport(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "export ID -o FILE",
		Short: "Write what a site is to run into one file, to be carried there",
		Long: `Write a site's signed assignment and the bundles in it into one file, for a site without a line to the hub.
There, holdfast-edge import takes it under the rules of the bus: the same signatures, counters, leases and windows. The fleet's root of trust is in the
file, too, so that a site that was away while keys changed follows them. The file holds no secret but the
values that the assignment sets.`,
		Example: "  holdfast site export shop-berlin -o shop-berlin.carried",
		Args:    exactly("ID"),
	}
	out := cmd.Flags().StringP("output", "o", "", "`file` to write (default ID.carried)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		id, err := bundle.ParseSiteID(args[0])
		if err != nil {
			return err
		}
		path := *out
		if path == "" {
			path = string(id) + ".carried"
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		given, err := hub.Assignment(cmd.Context(), id)
		if err != nil {
			return err
		}
		var file bytes.Buffer
		add, err := fleetsync.WriteCarried(&file, id)
		if err != nil {
			return err
		}
		for _, file := range given.Trust {
			if err := add(fleetsync.CarriedTrust, append([]byte(file.Name+"\n"), file.Data...)); err != nil {
				return err
			}
		}
		if err := add(fleetsync.CarriedAssignment, given.Sealed); err != nil {
			return err
		}
		for _, ref := range given.Bundles {
			raw, err := hub.BundleFile(cmd.Context(), ref)
			if err != nil {
				return err
			}
			if err := add(fleetsync.CarriedBundle, raw); err != nil {
				return err
			}
		}
		if file.Len() > fleetsync.MaxCarried {
			return fmt.Errorf("site %s: its bundles have %d bytes, more than the %d that one file may have", id, file.Len(), fleetsync.MaxCarried)
		}
		if err := writeNew(path, file.Bytes(), 0o600); err != nil {
			return err
		}
		d.sayf("assignment %d of site %s and %d bundles are in %s", given.Sequence, id, len(given.Bundles), path)
		d.sayf("next: holdfast-edge import %s", path)
		return nil
	}
	return cmd
}

func newReport(d *desk) *cobra.Command {
	return group("report", "Take what sites report by hand", newReportImport(d))
}

func newReportImport(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE",
		Short: "Take a site's report that was carried here (holdfast-edge export-report)",
		Long: `Take a site's report that was carried here. The hub checks it as what comes from the bus: it is signed by the site, and each event counts once,
however often it arrives.`,
		Example: "  holdfast report import shop-berlin.report",
		Args:    exactly("FILE"),
	}
	f := outputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		raw, err := readLimited(args[0], api.MaxReport)
		if err != nil {
			return err
		}
		hub, err := d.hub()
		if err != nil {
			return err
		}
		taken, err := hub.Report(cmd.Context(), raw)
		if err != nil {
			return err
		}
		return d.show(*f, taken, func() page {
			snapshot := "the hub has a newer one"
			if taken.State > 0 {
				snapshot = fmt.Sprintf("%d taken", taken.State)
			}
			return page{facts: []fact{{"Site", text(string(taken.Site))}, {"Snapshot", text(snapshot)}, {"Events", textf("%d", taken.Events)}}}
		})
	}
	return cmd
}
