package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// difference is what bundle diff found. It is between contents and manifests as they are, before any site's values.
type difference struct {
	From    string          `json:"from"`
	To      string          `json:"to"`
	Objects []bundle.Change `json:"objects"`
	// Manifest lists the parts of the manifests that differ, beyond name, version, counter, times and content.
	Manifest []bundle.PathChange `json:"manifest"`
}

func newBundleDiff(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Show what changes from bundle A to bundle B: objects and paths",
		Long: `Show what changes from bundle A to bundle B: objects added, removed and changed, with the paths that changed. What Secrets hold
is not shown. Nothing is verified.`,
		Example: "  holdfast bundle diff shop-1.0.0.hfb shop-1.1.0.hfb",
		Args:    exactly("A", "B"),
	}
	f := outputFlag(cmd)
	fail := cmd.Flags().Bool("exit-code", false, "exit with 8 if they differ")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		diff, err := compare(args[0], args[1])
		if err != nil {
			return err
		}
		if *f == formatTable {
			_, err = fmt.Fprint(d.out, d.diffText(diff))
		} else {
			err = d.show(*f, diff, nil)
		}
		if err == nil && *fail && len(diff.Objects)+len(diff.Manifest) > 0 {
			err = &failure{code: exitDifferent}
		}
		return err
	}
	return cmd
}

func compare(from, to string) (*difference, error) {
	a, err := openBundle(from)
	if err != nil {
		return nil, err
	}
	b, err := openBundle(to)
	if err != nil {
		return nil, err
	}
	_, was, err := a.content()
	if err != nil {
		return nil, err
	}
	_, is, err := b.content()
	if err != nil {
		return nil, err
	}
	diff := &difference{From: a.manifest.Ref().String(), To: b.manifest.Ref().String(), Objects: []bundle.Change{}, Manifest: []bundle.PathChange{}}
	changes, err := bundle.DiffContent(was, is)
	if err != nil {
		return nil, err
	}
	diff.Objects = append(diff.Objects, changes...)
	paths, err := compareManifests(a.manifest, b.manifest)
	if err != nil {
		return nil, err
	}
	diff.Manifest = append(diff.Manifest, paths...)
	return diff, nil
}

// compareManifests compares what bundles want, and leaves out what differs between any two of them.
func compareManifests(a, b *bundle.Manifest) ([]bundle.PathChange, error) {
	was, err := wishes(a)
	if err != nil {
		return nil, err
	}
	is, err := wishes(b)
	if err != nil {
		return nil, err
	}
	changes, err := bundle.DiffContent([]bundle.Object{was}, []bundle.Object{is})
	if err != nil || len(changes) == 0 {
		return nil, err
	}
	return changes[0].Paths, nil
}

// wishes is a manifest in the form of an object, so that one piece of code compares both.
func wishes(m *bundle.Manifest) (bundle.Object, error) {
	same := *m
	same.Name, same.Version, same.Counter = "same", "0.0.0", 1
	same.Created = notRecorded
	same.Content = bundle.ContentInfo{Digest: bundle.DigestOf(nil), Size: 1, Objects: 1}
	raw, err := bundle.EncodeManifest(&same)
	return bundle.Object{JSON: raw}, err
}

var marks = map[bundle.ChangeKind]struct {
	mark  string
	style style
}{bundle.Added: {"+", good}, bundle.Removed: {"-", bad}, bundle.Changed: {"~", warn}}

func (d *desk) diffText(diff *difference) string {
	var b strings.Builder
	put := func(c cell) { b.WriteString(line([]cell{{printable(c.text), c.style}}, []int{0}, d.width, d.colour)) }
	put(textf("%s → %s", diff.From, diff.To))
	for _, p := range diff.Manifest {
		put(cell{"~ manifest " + p.Pointer + ": " + either(p.Old) + " → " + either(p.New), warn})
	}
	counts := map[bundle.ChangeKind]int{}
	for _, c := range diff.Objects {
		counts[c.Kind]++
		put(cell{marks[c.Kind].mark + " " + c.ID.String(), marks[c.Kind].style})
		for _, p := range c.Paths {
			put(textf("    %s: %s → %s", p.Pointer, either(p.Old), either(p.New)))
		}
	}
	put(textf("%d added, %d changed, %d removed", counts[bundle.Added], counts[bundle.Changed], counts[bundle.Removed]))
	return b.String()
}

// either is a value for a line, or what stands for none.
func either(value string) string {
	if value == "" {
		return "(none)"
	}
	return cut(value, 200)
}
