package main

import (
	"fmt"
	"io/fs"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

// rootView is what root show tells, of a draft or of what is published.
type rootView struct {
	Draft   bool          `json:"draft"`
	Root    fileView      `json:"root"`
	Targets fileView      `json:"targets"`
	Missing []author.Need `json:"missing,omitempty"`
	Keys    []keyEntry    `json:"keys"`
	Trust   *verify.Trust `json:"trust,omitempty"`
	Leaving []keyEntry    `json:"leaving,omitempty"` // root keys that stop holding the root
}

type fileView struct {
	Version int64      `json:"version"` // 0: it stays as it is
	Expires *time.Time `json:"expires,omitempty"`
}

func newRootShow(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [DRAFT]",
		Short: "Show a change of the root of trust, or what is published",
		Long: `Show what a draft would change, whose signatures it has and whose it lacks, from the very bytes that are signed. Without DRAFT, show what the
fleet's folder has published.`,
		Example: "  holdfast root show fleet/draft.json\n  holdfast root show --dir fleet",
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef(cmd, "root show takes one draft, got %d arguments", len(args))
		}
		return nil
	}
	f := outputFlag(cmd)
	dir := dirFlag(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		view, err := rootViewOf(*dir, args)
		if err != nil {
			return err
		}
		return d.show(*f, view, func() page { return rootPage(view, d.now()) })
	}
	return cmd
}

func rootViewOf(dir string, args []string) (rootView, error) {
	if len(args) == 1 {
		draft, err := readDraft(args[0])
		if err != nil {
			return rootView{}, err
		}
		return draftView(draft)
	}
	return publishedView(fleetFolder{dir})
}

func draftView(draft *author.Draft) (rootView, error) {
	s, err := draft.Review()
	if err != nil {
		return rootView{}, err
	}
	v := rootView{Draft: true, Trust: s.Trust}
	if s.RootVersion > 0 {
		v.Root = fileView{s.RootVersion, &s.RootExpires}
	}
	if s.TargetsVersion > 0 {
		v.Targets = fileView{s.TargetsVersion, &s.TargetsExpires}
	}
	if v.Missing, err = draft.Missing(); err != nil {
		return v, err
	}
	trust := s.Trust
	if trust == nil {
		trust = &verify.Trust{}
	}
	if v.Keys, err = keyEntries(trust, s.After); err != nil {
		return v, err
	}
	before, err := idsOf(s.Before.Root)
	if err != nil {
		return v, err
	}
	after, err := idsOf(s.After.Root)
	if err != nil {
		return v, err
	}
	for _, id := range before {
		if !contains(after, id) {
			v.Leaving = append(v.Leaving, keyEntry{Key: id, Role: "root"})
		}
	}
	return v, nil
}

func contains(ids []verify.KeyID, id verify.KeyID) bool {
	for _, other := range ids {
		if other == id {
			return true
		}
	}
	return false
}

func publishedView(f fleetFolder) (rootView, error) {
	m, err := f.published()
	if err != nil {
		return rootView{}, err
	}
	if m.Root == nil || m.Fleet == nil {
		return rootView{}, &failure{code: exitNotFound, message: f.dir + ": nothing is published here", hint: "holdfast root publish --dir " + f.dir, cause: fs.ErrNotExist}
	}
	root, err := metadata.Root().FromBytes(m.Root)
	if err != nil {
		return rootView{}, fmt.Errorf("%s: root: %w", f.dir, err)
	}
	targets, err := metadata.Targets().FromBytes(m.Targets)
	if err != nil {
		return rootView{}, fmt.Errorf("%s: targets: %w", f.dir, err)
	}
	v := rootView{Root: fileView{root.Signed.Version, &root.Signed.Expires}, Targets: fileView{targets.Signed.Version, &targets.Signed.Expires}}
	if v.Trust, err = verify.DecodeTrust(m.Fleet); err != nil {
		return v, err
	}
	holders, err := author.HoldersOf(m.Root)
	if err != nil {
		return v, err
	}
	v.Keys, err = keyEntries(v.Trust, holders)
	return v, err
}

func rootPage(v rootView, now time.Time) page {
	var p page
	add := func(name string, value cell) { p.facts = append(p.facts, fact{name, value}) }
	if v.Trust != nil {
		add("Fleet", cell{v.Trust.Fleet, strong})
	}
	add("Root", fileCell(v.Root, v.Draft, now))
	add("Trust document", fileCell(v.Targets, v.Draft, now))
	for _, n := range v.Missing {
		add("Missing", cell{fmt.Sprintf("%s %d has %d of the %d signatures it needs of %s", n.File, n.Version, n.Have, n.Want, n.Of), warn})
	}
	if v.Draft && len(v.Missing) == 0 {
		add("Missing", cell{"nothing: holdfast root publish", good})
	}
	for _, k := range v.Leaving {
		add("Leaves the root", cell{string(k.Key), warn})
	}
	if t := v.Trust; t != nil {
		if t.CounterEpoch > 0 {
			add("Counter epoch", textf("%d", t.CounterEpoch))
		}
		for _, line := range pairsText(t.Thresholds, "%d signers") {
			add("Threshold", text(line))
		}
		floors := map[string]int{}
		for name, floor := range t.Floors {
			floors[string(name)] = int(floor)
		}
		for _, line := range pairsText(floors, "counter %d") {
			add("Floor", text(line))
		}
	}
	p.tables = append(p.tables, keyTable(v.Keys, now))
	return p
}

func fileCell(f fileView, draft bool, now time.Time) cell {
	switch {
	case f.Version == 0 && draft:
		return cell{"stays as it is", faint}
	case f.Expires == nil:
		return textf("version %d", f.Version)
	case now.After(*f.Expires):
		return cell{fmt.Sprintf("version %d, expired %s", f.Version, f.Expires.UTC().Format(time.RFC3339)), bad}
	}
	return textf("version %d, until %s", f.Version, f.Expires.UTC().Format(time.RFC3339))
}

func pairsText(of map[string]int, format string) []string {
	lines := make([]string, 0, len(of))
	for name, value := range of {
		lines = append(lines, strings.TrimSpace(name+": "+fmt.Sprintf(format, value)))
	}
	sort.Strings(lines)
	return lines
}
