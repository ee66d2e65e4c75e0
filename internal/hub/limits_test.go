package hub

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
)

func TestT28_AUserWhoRunsWildIsTheOnlyOneRefused(t *testing.T) {
	cfg := inMemory(t)
	now := time.Now()
	cfg.Now = func() time.Time { return now } // nothing fills again
	h := startHub(t, cfg)
	admin := clientOf(t, h)
	_, wild := userOf(t, admin, "wild", access.Viewer, access.Scope{})
	calm, _ := userOf(t, admin, "calm", access.Viewer, access.Scope{})
	h.asks.ofUser.of("wild").SetBurstAt(now, 3)
	client, counts := rawClient(t, wild), map[int]int{}
	for range 10 {
		status, problem := asked(t, client, wild, "GET", "/v1/whoami", "")
		counts[status]++
		if status == http.StatusTooManyRequests && (problem.Reason != "TooMany" || !strings.Contains(problem.Detail, "user wild")) {
			t.Errorf("%+v", problem)
		}
	}
	if counts[200] != 3 || counts[429] != 7 {
		t.Errorf("answers %v", counts)
	}
	for range 10 {
		if _, err := calm.WhoAmI(context.Background()); err != nil {
			t.Errorf("another user: %v", err)
		}
	}
}

func TestT27_FailedLoginsMeetALimit(t *testing.T) {
	cfg := inMemory(t)
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	h := startHub(t, cfg)
	target := contextOf(t, h)
	client, counts := rawClient(t, target), map[int]int{}
	guess := target
	guess.Token = "hfu_guess"
	for range 50 {
		status, _ := asked(t, client, guess, "GET", "/v1/sites", "")
		counts[status]++
	}
	if counts[401] != failedLoginBurst || counts[429] != 50-failedLoginBurst {
		t.Errorf("answers %v", counts)
	}
	if n := audited(t, clientOf(t, h), "log in", "Unauthorized"); n != failedLoginBurst {
		t.Errorf("%d failed logins are written down; and who has a token is let in from the same address", n)
	}
}

// A refusal for haste is in the audit log like any other, and a flood of them is a record a minute with their number.
func TestT28_HasteIsAuditedOnceAMinute(t *testing.T) {
	cfg := inMemory(t)
	begun := time.Now()
	var passed atomic.Int64
	cfg.Now = func() time.Time { return begun.Add(time.Duration(passed.Load())) }
	h := startHub(t, cfg)
	admin := clientOf(t, h)
	_, wild := userOf(t, admin, "wild", access.Viewer, access.Scope{})
	client := rawClient(t, wild)
	refused := func(n int) {
		t.Helper()
		h.asks.ofUser.of("wild").SetLimitAt(cfg.Now(), 0)
		h.asks.ofUser.of("wild").SetBurstAt(cfg.Now(), 0)
		for range n {
			if status, _ := asked(t, client, wild, "GET", "/v1/whoami", ""); status != http.StatusTooManyRequests {
				t.Errorf("status %d", status)
			}
		}
	}
	written := func() (details []string) {
		records, err := admin.Audit(t.Context(), 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			if r.Who == "wild" && r.What == "ask" && r.Outcome == "TooMany" {
				details = append(details, r.Detail)
			}
		}
		return details
	}
	refused(50)
	if got := written(); !slices.Equal(got, []string{"asked too often: 1 refused"}) {
		t.Errorf("after a burst: %q", got)
	}
	passed.Store(int64(hasteEvery))
	refused(10)
	if got := written(); len(got) != 2 || got[1] != "asked too often: 50 refused" {
		t.Errorf("a minute later: %q", got)
	}
	passed.Store(int64(2 * hasteEvery)) // what is left comes with a request that is let in
	h.asks.ofUser.of("wild").SetLimitAt(cfg.Now(), rate.Inf)
	for range 2 {
		if status, _ := asked(t, client, wild, "GET", "/v1/whoami", ""); status != http.StatusOK {
			t.Errorf("status %d", status)
		}
	}
	if got := written(); len(got) != 3 || got[2] != "asked too often: 9 refused" {
		t.Errorf("at the end: %q", got)
	}
	s := haste{of: map[string]hurry{}}
	for i := range 3 * maxKeys {
		s.count(begun, strconv.Itoa(i), 1)
	}
	if len(s.of) > maxKeys {
		t.Errorf("%d are remembered", len(s.of))
	}
}

func TestTheClientComesBackWhenItMay(t *testing.T) {
	h := startHub(t, inMemory(t))
	client := clientOf(t, h)
	h.asks.ofUser.of("admin").SetBurst(1)
	h.asks.ofUser.of("admin").SetLimit(20)
	for range 4 {
		if _, err := client.Version(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestAWriteWithAKeyIsCarriedOutOnce(t *testing.T) {
	h := startHub(t, inMemory(t))
	admin := clientOf(t, h)
	target := contextOf(t, h)
	_, olga := userOf(t, admin, "olga", access.Operator, access.Scope{})
	client := rawClient(t, target)
	ask := func(target api.ContextFile, key, path, body string) (int, string, string) {
		t.Helper()
		request, err := http.NewRequest("POST", target.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+target.Token)
		request.Header.Set("Idempotency-Key", key)
		response, err := client.Do(request)
		if err != nil {
			t.Error(err)
			return 0, "", ""
		}
		defer response.Body.Close()
		raw, _ := io.ReadAll(response.Body)
		return response.StatusCode, string(raw), response.Header.Get("Idempotency-Replayed")
	}
	token := `{"siteName":"serial","uses":1,"expiresInSeconds":60}`
	answers := make([]string, 8)
	var all sync.WaitGroup
	for i := range answers { // at the same time
		all.Go(func() {
			var status int
			if status, answers[i], _ = ask(target, "k1", "/v1/tokens", token); status != 200 {
				t.Errorf("status %d: %s", status, answers[i])
			}
		})
	}
	all.Wait()
	for _, answer := range answers {
		if answer != answers[0] {
			t.Errorf("answers differ: %s and %s", answer, answers[0])
		}
	}
	if tokens, err := admin.Tokens(context.Background()); err != nil || len(tokens) != 1 {
		t.Errorf("%d tokens, %v; want one", len(tokens), err)
	}
	if status, body, replayed := ask(target, "k1", "/v1/tokens", token); status != 200 || body != answers[0] || replayed != "true" {
		t.Errorf("again: %d %s", status, body)
	}
	if status, body, _ := ask(target, "k1", "/v1/tokens", strings.Replace(token, "60", "61", 1)); status != 422 || !strings.Contains(body, "KeyReused") {
		t.Errorf("another body under the key: %d %s", status, body)
	}
	if status, body, _ := ask(target, "k1", "/v1/assignments", token); status != 422 || !strings.Contains(body, "KeyReused") {
		t.Errorf("another path under the key: %d %s", status, body)
	}
	if status, body, replayed := ask(olga, "k1", "/v1/tokens", token); status != 200 || body == answers[0] || replayed != "" {
		t.Errorf("another user's key: %d %s", status, body)
	}
	// A refusal is an answer too: what was refused stays refused under the key.
	_, public, err := bus.NewSiteKey()
	if err != nil {
		t.Fatal(err)
	}
	for _, replayed := range []string{"", "true"} {
		if status, _, got := ask(target, "k2", "/v1/sites", `{"id":"A","publicKey":"`+public+`"}`); status != 400 || got != replayed {
			t.Errorf("refused: %d, replayed %q", status, got)
		}
	}
	if status, _, _ := ask(target, strings.Repeat("k", 129), "/v1/tokens", token); status != 400 {
		t.Errorf("a long key: %d", status)
	}
}

func TestIdempotencyKeysAreBoundedAndExpire(t *testing.T) {
	p := newReplays()
	for i := range 3 * maxReplays {
		r, first := p.begin(noon, string(rune(i+256)), [32]byte{})
		if !first {
			t.Fatal("a new key was known")
		}
		close(r.done)
	}
	if len(p.byKey) != maxReplays || len(p.order) != maxReplays {
		t.Errorf("%d keys are kept", len(p.byKey))
	}
	if _, first := p.begin(noon.Add(replayLife+time.Second), "k", [32]byte{}); !first || len(p.byKey) != 1 {
		t.Errorf("%d keys after they expired", len(p.byKey))
	}
	r, _ := p.begin(noon.Add(replayLife+time.Second), "gone", [32]byte{})
	p.forget("gone", r)
	if _, first := p.begin(noon.Add(replayLife+time.Second), "gone", [32]byte{}); !first || len(p.order) != 2 {
		t.Error("a forgotten key is known")
	}
}
