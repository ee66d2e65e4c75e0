package hub

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// A user of a group sees where its sites stand in the rollouts that touch them: every count is of its sites, no other site is named, and a rollout
// without one of them is as unknown as one that there is not.
func TestT27_AScopeSeesTheRolloutsOfItsSites(t *testing.T) {
	d := newDistrict(t, 5, true) // 1, 3 and 5 are in the south
	if _, err := d.client.SetGroup(t.Context(), "south", "region=south"); err != nil {
		t.Fatal(err)
	}
	user, target := userOf(t, d.client, "sue", access.Viewer, access.Scope{Group: "south"})
	told, _ := watch(t, target, "?kinds=rollouts", "")
	next(t, told, "")
	d.release("1.1.0", 2, map[int]rollout.Behaviour{2: rollout.DoesFail})
	r := d.start("1.1.0", `{"waves":[{"name":"canary","sites":{"names":["shop-2"]},"soak":"0s"},{"name":"rest","soak":"0s","maxUnavailable":3}]}`)
	if e := d.reaches(r.ID, rollout.Paused); len(e.Sites) != 1 || e.Cause.Sites[0] != "shop-2" {
		t.Fatalf("%+v", e)
	}
	push(t, d.client, releaseOf(t, "2.0.0", 1, ours(), func(m *bundle.Manifest) { m.Name = "till" }))
	north, err := d.client.StartRollout(t.Context(), api.RolloutRequest{Bundle: bundle.Ref{Name: "till", Version: "2.0.0"},
		Plan: planOf(`{"targets":{"labels":"region=north"},"waves":[{"name":"canary","sites":{"names":["shop-4"]},"soak":"0s"},{"name":"rest","soak":"0s","maxUnavailable":1}]}`)})
	if err != nil {
		t.Fatal(err)
	}
	d.reaches(north.Rollout.ID, rollout.Completed)

	list, err := user.Rollouts(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != r.ID || list[0].Sites != 3 || list[0].Phase != rollout.Paused {
		t.Fatalf("listed %+v, %v", list, err)
	}
	one, err := user.Rollout(t.Context(), r.ID)
	if err != nil || one.Sites != 3 || one.Waves[0].Tally.Size != 0 || one.Waves[1].Tally.Size != 3 || one.Cause != "wave canary: 1 site failed, at most 0 may" {
		t.Errorf("one: %+v, %v", one, err)
	}
	e, err := user.ExplainRollout(t.Context(), r.ID)
	if err != nil || e.Phase != rollout.Paused || e.Cause == nil || e.Cause.Code != rollout.MoveFailures || len(e.Sites) != 0 || e.Waves[1].Tally.Size != 3 || e.Exposure.Outstanding != 0 {
		t.Errorf("explained: %+v, %v", e, err)
	}
	for _, answer := range []any{list, one, e} {
		if raw, err := json.Marshal(answer); err != nil || strings.Contains(string(raw), "shop-2") || strings.Contains(string(raw), "shop-4") {
			t.Errorf("another site is named: %s, %v", raw, err)
		}
	}
	for _, id := range []string{north.Rollout.ID, "nothing"} {
		_, err := user.Rollout(t.Context(), id)
		_, explained := user.ExplainRollout(t.Context(), id)
		if refusalOf(t, err).Reason != "UnknownRollout" || refusalOf(t, explained).Reason != "UnknownRollout" {
			t.Errorf("%s: %v, %v", id, err, explained)
		}
	}
	if _, err := user.StartRollout(t.Context(), api.RolloutRequest{Bundle: r.Bundle, Plan: planOf(quick)}); refusalOf(t, err).Status != http.StatusForbidden {
		t.Errorf("a user with a scope started a rollout: %v", err)
	}

	// What is told as it happens is the same part, and nothing of the rollout of others.
	for phase := rollout.Phase(""); phase != rollout.Paused; {
		one, _ := next(t, told, "rollout")
		var part api.Rollout
		if err := json.Unmarshal([]byte(one.data), &part); err != nil || part.ID != r.ID || part.Sites != 3 || strings.Contains(one.data, "shop-2") {
			t.Fatalf("told %+v, %v", one, err)
		}
		phase = part.Phase
	}
	d.act(r.ID, "resume", api.RolloutAct{Why: "go on"})
	for phase := rollout.Paused; phase == rollout.Paused; {
		one, _ := next(t, told, "rollout")
		var part api.Rollout
		if err := json.Unmarshal([]byte(one.data), &part); err != nil || part.ID != r.ID {
			t.Fatalf("told %+v, %v", one, err)
		}
		phase = part.Phase
	}

	b := newBrowser(t, d.h)
	b.login(target.Token)
	for path, want := range map[string]string{"/ui/rollouts": r.ID, "/ui/rollouts/" + r.ID: "canary"} {
		if response, body := b.get(path); response.StatusCode != http.StatusOK || !strings.Contains(body, want) || strings.Contains(body, north.Rollout.ID) ||
			strings.Contains(body, "shop-2") || strings.Contains(body, "shop-4") {
			t.Errorf("%s: %d %s", path, response.StatusCode, body)
		}
	}
	if response, _ := b.get("/ui/rollouts/" + north.Rollout.ID); response.StatusCode != http.StatusNotFound {
		t.Errorf("the page of a rollout of others: %d", response.StatusCode)
	}
}
