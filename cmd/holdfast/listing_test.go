package main

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// What is written page by page is, to the letter, what is written of the whole list, whatever the size of its pages.
func TestAListInPagesIsTheList(t *testing.T) {
	sites := fleet()
	view := func(sites []api.Site) page { return sitesPage(sites, noon) }
	for _, size := range []int{1, 2, 3, 5, 100} {
		for _, f := range []format{formatTable, formatJSON, formatYAML} {
			for _, list := range [][]api.Site{sites, sites[:1], {}} {
				want := shown(t, &desk{}, f, list, func() page { return view(list) })
				var out, talk bytes.Buffer
				d := &desk{out: &out, talk: &talk}
				pages := func(yield func([]api.Site, error) bool) {
					for part := range slices.Chunk(list, size) {
						if !yield(part, nil) {
							return
						}
					}
					if len(list) == 0 {
						yield(nil, nil)
					}
				}
				if err := showList(d, f, pages, view); err != nil {
					t.Fatal(err)
				}
				if got := out.String() + talk.String(); got != want {
					t.Errorf("%s of %d sites in pages of %d: got\n%s\nwant\n%s", f, len(list), size, got, want)
				}
			}
		}
	}
}

func TestAListThatBreaksOffFails(t *testing.T) {
	broken := errors.New("broken")
	pages := func(yield func([]api.Site, error) bool) {
		if yield(fleet(), nil) {
			yield(nil, broken)
		}
	}
	for _, f := range []format{formatTable, formatJSON, formatYAML} {
		if err := showList(&desk{out: &bytes.Buffer{}, talk: &bytes.Buffer{}}, f, pages, func(s []api.Site) page { return sitesPage(s, noon) }); !errors.Is(err, broken) {
			t.Errorf("%s: %v", f, err)
		}
	}
}

func TestManySitesAreChangedInParts(t *testing.T) {
	ids := make([]bundle.SiteID, 2*api.MaxSites+1)
	for i := range ids {
		ids[i] = bundle.SiteID(fmt.Sprintf("shop-%d", i))
	}
	var asked []int
	d := &desk{talk: &bytes.Buffer{}}
	fine := func(part []bundle.SiteID) ([]api.AssignResult, error) {
		asked = append(asked, len(part))
		results := make([]api.AssignResult, len(part))
		for i := range part {
			results[i] = api.AssignResult{Site: part[i], Changed: true}
		}
		return results, nil
	}
	results, err := d.inParts(ids, fine)
	if err != nil || len(results) != len(ids) || results[len(ids)-1].Site != ids[len(ids)-1] || fmt.Sprint(asked) != "[1000 1000 1]" {
		t.Errorf("%d results in parts of %v, %v", len(results), asked, err)
	}
	results, err = d.inParts(ids, func(part []bundle.SiteID) ([]api.AssignResult, error) {
		if part[0] != ids[0] {
			return nil, errors.New("the line broke")
		}
		return fine(part)
	})
	failed := 0
	for _, r := range results {
		if r.Error != nil && strings.Contains(r.Error.Detail, "the line broke") {
			failed++
		}
	}
	if err != nil || len(results) != len(ids) || failed != api.MaxSites+1 {
		t.Errorf("%d of %d failed, %v", failed, len(results), err)
	}
	if _, err := d.inParts(ids, func([]bundle.SiteID) ([]api.AssignResult, error) { return nil, errors.New("refused") }); err == nil {
		t.Error("a refusal of the whole is told as a result")
	}
}
