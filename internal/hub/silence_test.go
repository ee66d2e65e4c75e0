package hub

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// TestP05_SilenceIsKeptOfEachSiteOnce: however often sites are heard, what is remembered is one time for each, and the soonest is looked at first.
func TestP05_SilenceIsKeptOfEachSiteOnce(t *testing.T) {
	var s silence
	for n := range 100 {
		for _, i := range []int{2, 0, 1} {
			s.put(bundle.SiteID(fmt.Sprintf("shop-%d", i)), noon.Add(time.Duration(i+n)*time.Minute))
		}
	}
	if len(s.queue) != 3 {
		t.Errorf("%d times are remembered of 3 sites", len(s.queue))
	}
	if next, there := s.next(); !there || !next.Equal(noon) {
		t.Errorf("the next is %s", next)
	}
	if due := s.due(noon.Add(90 * time.Second)); !slices.Equal(due, []bundle.SiteID{"shop-0", "shop-1"}) {
		t.Errorf("due are %v", due)
	}
	s.put("shop-0", noon.Add(time.Hour)) // heard since
	if due := s.due(noon.Add(time.Hour + time.Second)); !slices.Equal(due, []bundle.SiteID{"shop-2", "shop-0"}) {
		t.Errorf("an hour later %v", due)
	}
	if _, there := s.next(); there {
		t.Error("there is more")
	}
}
