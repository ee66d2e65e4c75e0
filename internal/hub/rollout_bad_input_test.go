package hub

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// orders is all that rollouts and assignments are, by subject.
func orders(t *testing.T, h *Hub) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range []string{stream.Rollouts, stream.RolloutParts, stream.Desired} {
		err := h.store.Each(t.Context(), name, "", 1, func(m stream.Message) error {
			if m.Subject != leaderSubject {
				all[m.Subject] = string(m.Data)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// What an operator asks for and must not have costs a reason: nothing that is ordered changes, and the audit log says who tried what.
func TestR20_EveryRefusedPlanChangesNothingAndIsAudited(t *testing.T) {
	d := newDistrict(t, 6, true)
	for i := range 10 { // never heard from, and part of the fleet
		_, public, err := bus.NewSiteKey()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.client.AddSite(t.Context(), api.SiteRequest{ID: shopID(i + 10), PublicKey: public}); err != nil {
			t.Fatal(err)
		}
	}
	d.release("1.1.0", 2, nil)
	push(t, d.client, releaseOf(t, "2.0.0", 1, ours(), func(m *bundle.Manifest) { m.Name = "till" }))
	held := d.start("1.1.0", `{"waves":[{"name":"canary","sites":{"names":["shop-1"]},"soak":"0s"},{"name":"rest","soak":"0s","maxUnavailable":3,"approvals":1}]}`)
	eventually(t, "it waits for an approval, and that is stored", func() bool {
		e, err := d.client.ExplainRollout(t.Context(), held.ID)
		head, headErr := d.client.Rollout(t.Context(), held.ID)
		return err == nil && headErr == nil && head.Revision == e.Revision && slices.ContainsFunc(e.Holds, func(h rollout.Reason) bool { return h.Code == rollout.HoldApproval })
	})
	start := func(ref bundle.Ref, spec string) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := d.client.StartRollout(ctx, api.RolloutRequest{Bundle: ref, Plan: planOf(spec)})
			return err
		}
	}
	act := func(act string, request api.RolloutAct) func(context.Context) error {
		return func(ctx context.Context) error {
			_, err := d.client.ActOnRollout(ctx, held.ID, act, request)
			return err
		}
	}
	type refused struct {
		what   string
		try    func(context.Context) error
		reason string
		says   string
		audit  string // what and target
	}
	till, shop := bundle.Ref{Name: "till", Version: "2.0.0"}, bundle.Ref{Name: "shop", Version: "1.1.0"}
	tryAll := func(all []refused) {
		t.Helper()
		for _, c := range all {
			t.Run(c.what, func(t *testing.T) {
				before := orders(t, d.h)
				problem := refusalOf(t, c.try(t.Context()))
				if problem.Reason != c.reason || !strings.Contains(problem.Title+": "+problem.Detail, c.says) {
					t.Errorf("%+v", problem)
				}
				if after := orders(t, d.h); !reflect.DeepEqual(after, before) {
					t.Errorf("something changed: %d subjects, then %d", len(before), len(after))
				}
				if log := auditText(t, d.client); !strings.HasSuffix(log, "admin "+c.audit+" "+c.reason+" "+problem.Title+"\n") {
					t.Errorf("the audit log does not end with it:\n%s", log)
				}
			})
		}
	}
	tryAll([]refused{
		{"waves that overlap", start(till, `{"waves":[{"name":"canary","sites":{"names":["shop-1"]}},{"name":"more","sites":{"names":["shop-1","shop-2"]}}]}`),
			"BadPlan", "it overlaps wave canary", "rollout start till@2.0.0"},
		{"nobody is selected", start(till, `{"targets":{"labels":"region=moon"},"waves":[{"name":"canary","sites":{"count":1}},{"name":"rest"}]}`),
			"BadPlan", "it selects nobody", "rollout start till@2.0.0"},
		{"more than the fleet has", start(till, `{"waves":[{"name":"canary","sites":{"names":["shop-1"]}},{"name":"rest","sites":{"count":40}}]}`),
			"BadPlan", "it exceeds the fleet", "rollout start till@2.0.0"},
		{"a site that there is not", start(till, `{"waves":[{"name":"canary","sites":{"names":["shop-77"]}},{"name":"rest"}]}`),
			"BadPlan", "it exceeds the fleet", "rollout start till@2.0.0"},
		{"everything in the first wave", start(till, `{"waves":[{"name":"all","sites":{"all":true}}]}`), "BadPlan", "it could take everything at once", "rollout start till@2.0.0"},
		{"everything in one step", start(till, `{"waves":[{"name":"canary","sites":{"names":["shop-1"]}},{"name":"rest","maxUnavailable":"100%"}]}`),
			"BadPlan", "want a smaller maxUnavailable", "rollout start till@2.0.0"},
		{"a bundle that is not in the catalog", start(bundle.Ref{Name: "till", Version: "9.9.9"}, quick), "UnknownBundle", "till@9.9.9", "rollout start till@9.9.9"},
		{"a second rollout of the bundle", start(shop, quick), "BadPlan", "one active rollout per bundle", "rollout start shop@1.1.0"},
		{"an approval by the starter", act("approval", api.RolloutAct{Wave: "rest"}), "NotAllowed", "", "rollout approve " + held.ID},
	})
	d.act(held.ID, "pause", api.RolloutAct{Why: "lunch"})
	tryAll([]refused{{"a resume without a reason", act("resume", api.RolloutAct{}), "NotAllowed", "", "rollout resume " + held.ID}})

	root := rootOf(t, d.cfg.DataDir)
	root.Trust.Floors = map[bundle.Name]bundle.Counter{"till": 3}
	root.Publish(false)
	if _, err := publish(d.client, root.Published); err != nil {
		t.Fatal(err)
	}
	tryAll([]refused{{"a bundle below the floor", start(till, quick), string(verify.BelowFloor), "", "rollout start till@2.0.0"}})
	root.Trust.Floors, root.Trust.Keys[0].Revoked = nil, true
	root.Publish(false)
	if _, err := publish(d.client, root.Published); err != nil {
		t.Fatal(err)
	}
	tryAll([]refused{{"a bundle of a revoked key", start(till, quick), string(verify.RevokedKey), "", "rollout start till@2.0.0"}})
}
