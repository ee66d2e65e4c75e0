package hub

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func told(events []api.SiteEvent) string {
	var words []string
	for _, event := range events {
		words = append(words, fmt.Sprintf("%s/%s/%d", event.Site, event.Epoch, event.Sequence))
	}
	return strings.Join(words, " ")
}

func TestTimelineTellsEachEventOnceInOrder(t *testing.T) {
	type received struct {
		site     bundle.SiteID
		epoch    string
		from, to uint64
		minute   int
	}
	for name, c := range map[string]struct {
		limit   int
		batches []received
		want    string
	}{
		"nothing":         {9, nil, ""},
		"one site":        {9, []received{{"s1", "a", 1, 2, 0}, {"s1", "a", 3, 3, 1}}, "s1/a/1 s1/a/2 s1/a/3"},
		"received twice":  {9, []received{{"s1", "a", 1, 2, 0}, {"s1", "a", 1, 3, 1}}, "s1/a/1 s1/a/2 s1/a/3"},
		"a hole filled":   {9, []received{{"s1", "a", 1, 1, 0}, {"s1", "a", 3, 3, 1}, {"s1", "a", 2, 2, 2}}, "s1/a/1 s1/a/2 s1/a/3"},
		"a new epoch":     {9, []received{{"s1", "b", 7, 7, 0}, {"s1", "a", 1, 1, 1}}, "s1/b/7 s1/a/1"},
		"the newest":      {2, []received{{"s1", "a", 1, 3, 0}}, "s1/a/2 s1/a/3"},
		"two sites":       {9, []received{{"s1", "a", 1, 1, 0}, {"s2", "x", 1, 1, 1}, {"s1", "a", 2, 2, 2}}, "s1/a/1 s2/x/1 s1/a/2"},
		"late and merged": {9, []received{{"s1", "a", 2, 2, 1}, {"s2", "x", 1, 1, 2}, {"s1", "a", 1, 1, 3}}, "s2/x/1 s1/a/1 s1/a/2"},
	} {
		line := newTimeline(c.limit)
		for _, b := range c.batches {
			if err := line.add(batch(b.site, b.epoch, b.from, b.to), minute(b.minute)); err != nil {
				t.Fatal(err)
			}
		}
		if got := told(line.newest()); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// However much is added, what is kept is bounded, and the newest are the newest.
func TestTimelineIsBounded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 50).Draw(t, "limit")
		line, next := newTimeline(limit), uint64(1)
		for i := range rapid.IntRange(1, 40).Draw(t, "batches") {
			length := rapid.Uint64Range(1, 200).Draw(t, "length")
			if err := line.add(batch("s1", "a", next, next+length-1), noon.Add(time.Duration(i)*time.Second)); err != nil {
				t.Fatal(err)
			}
			next += length
			if len(line.events) > 4*limit+500 {
				t.Fatalf("%d events kept for a limit of %d", len(line.events), limit)
			}
		}
		events := line.newest()
		if want := min(limit, int(next-1)); len(events) != want || events[len(events)-1].Sequence != next-1 {
			t.Fatalf("%d events to %d, want %d to %d", len(events), events[len(events)-1].Sequence, want, next-1)
		}
		if !slices.IsSortedFunc(events, func(a, b api.SiteEvent) int { return int(a.Sequence) - int(b.Sequence) }) {
			t.Fatal("not in order")
		}
	})
}
