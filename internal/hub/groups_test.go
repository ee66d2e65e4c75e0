package hub

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func TestGroupsAreNamedSelectorsThatOutliveTheHub(t *testing.T) {
	cfg := configOf(t, t.TempDir())
	h := startHub(t, cfg)
	client, ctx := clientOf(t, h), context.Background()
	addSite(t, client, "shop-1", map[string]string{"tier": "canary"})
	addSite(t, client, "shop-2", map[string]string{"tier": "rest"})

	for selector, want := range map[string]int{"tier=canary": 1, "tier in (canary,rest)": 2} {
		if group, err := client.SetGroup(ctx, "pilots", selector); err != nil || group.Sites != want || group.Selector != selector {
			t.Errorf("%q: %+v, %v", selector, group, err)
		}
	}
	for selector, reason := range map[string]string{"": "EmptyGroup", "tier=": "", "a b": "Malformed", strings.Repeat("x", 5000): "Malformed"} {
		if _, err := client.SetGroup(ctx, "pilots", selector); reason != "" && refusalOf(t, err).Reason != reason {
			t.Errorf("%.20q: %v, want %s", selector, err, reason)
		}
	}
	if _, err := client.SetGroup(ctx, "No Name", "a=b"); refusalOf(t, err).Status != http.StatusBadRequest {
		t.Errorf("a name that is none: %v", err)
	}
	if _, err := client.DeleteGroup(ctx, "others"); refusalOf(t, err).Status != http.StatusNotFound {
		t.Errorf("deleted what was not there: %v", err)
	}
	if _, err := client.SetGroup(ctx, "others", "tier=rest"); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DeleteGroup(ctx, "others"); err != nil {
		t.Fatal(err)
	}
	h.Close()

	client = clientOf(t, startHub(t, cfg))
	groups, err := client.Groups(ctx)
	if err != nil || len(groups) != 1 || groups[0].Name != bundle.Name("pilots") {
		t.Fatalf("after a restart: %+v, %v", groups, err)
	}
	if _, err := client.Group(ctx, "others"); refusalOf(t, err).Status != http.StatusNotFound {
		t.Errorf("a deleted group is there: %v", err)
	}
	records, err := client.Audit(ctx, 0)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, r := range records {
		if strings.HasPrefix(r.What, "group") {
			told = append(told, r.What+" "+r.Target+" "+r.Outcome)
		}
	}
	for _, want := range []string{"group set pilots done", "group set pilots EmptyGroup", "group delete others UnknownGroup", "group delete others done"} {
		if !strings.Contains(strings.Join(told, "\n"), want) {
			t.Errorf("the audit log does not have %q: %q", want, told)
		}
	}
}
