package hub

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// message is one server-sent event.
type message struct{ id, kind, data string }

// watch gives what a watcher is told; the channel ends with the answer.
func watch(t *testing.T, target api.ContextFile, query, lastID string) (<-chan message, func()) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	request, err := http.NewRequestWithContext(ctx, "GET", target.URL+"/v1/watch"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+target.Token)
	if lastID != "" {
		request.Header.Set("Last-Event-ID", lastID)
	}
	response, err := rawClient(t, target).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	if kind := response.Header.Get("Content-Type"); response.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%d %s", response.StatusCode, kind)
	}
	all := make(chan message, 100)
	go func() {
		defer close(all)
		defer response.Body.Close()
		var one message
		for lines := bufio.NewScanner(response.Body); lines.Scan(); {
			name, value, _ := strings.Cut(lines.Text(), ": ")
			switch name {
			case "id":
				one.id = value
			case "event":
				one.kind = value
			case "data":
				one.data = value
			case "":
				if value == "" {
					all <- one
					one = message{}
				}
			}
		}
	}()
	return all, stop
}

// next is the next of a kind, "" for any; ok is false where the answer ended.
func next(t *testing.T, all <-chan message, kind string) (message, bool) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case one, ok := <-all:
			if !ok || kind == "" || one.kind == kind {
				return one, ok
			}
		case <-limit:
			t.Fatalf("never told: %s", kind)
		}
	}
}

func TestWatchersAreToldWhatHappensAndGoOnWhereTheyWere(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, target := clientOf(t, h), contextOf(t, h)
	all, stop := watch(t, target, "", "")
	begin, _ := next(t, all, "") // from here on
	site := addSite(t, client, "shop-1", map[string]string{"region": "eu"})
	one, _ := next(t, all, "site")
	var shown api.Site
	if err := json.Unmarshal([]byte(one.data), &shown); err != nil || shown.ID != "shop-1" {
		t.Errorf("%+v, %v", one, err)
	}
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 1, 2))
	first, _ := next(t, all, "event")
	var event api.SiteEvent
	if err := json.Unmarshal([]byte(first.data), &event); err != nil || event.Sequence != 1 || event.Epoch != "a" || event.Site != "shop-1" {
		t.Errorf("%+v, %v", first, err)
	}
	stop()

	again, _ := watch(t, target, "", first.id)
	if two, _ := next(t, again, "event"); !strings.Contains(two.data, `"sequence":2`) && !strings.Contains(two.data, `"seq":2`) {
		t.Errorf("after the first event comes %+v", two)
	}
	replayed, _ := watch(t, target, "?kinds=events&labels=region%3Deu", begin.id)
	for _, want := range []string{first.id} {
		if got, _ := next(t, replayed, "event"); got.id != want {
			t.Errorf("replayed %+v, want %s", got, want)
		}
	}
	elsewhere, _ := watch(t, target, "?kinds=events&labels=region%3Dus", begin.id)
	for _, unknown := range []string{"other-3", "nonsense", h.feed.id(1 << 40)} {
		lost, _ := watch(t, target, "", unknown)
		if got, _ := next(t, lost, "reset"); got.kind != "reset" {
			t.Errorf("%s: %+v", unknown, got)
		}
	}
	h.Close() // ends them all, without waiting for anybody
	if _, more := next(t, elsewhere, "event"); more {
		t.Error("somebody was told of sites that were not asked for")
	}
}

func TestT27_WatchingKeepsToTheScopeAndEndsWithTheToken(t *testing.T) {
	h := startHub(t, inMemory(t))
	admin := clientOf(t, h)
	_, near := userOf(t, admin, "near", access.Viewer, access.Scope{Labels: "region=eu"})
	all, _ := watch(t, near, "", "")
	next(t, all, "")
	for name, region := range map[bundle.SiteID]string{"shop-us": "us", "shop-eu": "eu"} {
		h.fold(siteMessage(t, SiteRecord{Site: name, Labels: map[string]string{"region": region}, Key: make([]byte, 32), Added: noon}))
	}
	h.feed.put(note{rollout: &api.Rollout{ID: "r1"}})
	if one, _ := next(t, all, ""); one.kind != "site" || !strings.Contains(one.data, "shop-eu") {
		t.Errorf("told %+v", one)
	}
	if _, err := admin.RevokeUser(context.Background(), "near", ""); err != nil {
		t.Fatal(err)
	}
	h.fold(siteMessage(t, SiteRecord{Site: "shop-eu", Labels: map[string]string{"region": "eu", "more": "x"}, Key: make([]byte, 32), Added: noon, Revision: 1}))
	for {
		one, more := next(t, all, "")
		if !more {
			break
		}
		t.Errorf("a revoked user is told %+v", one)
	}
}

func siteMessage(t *testing.T, record SiteRecord) stream.Message {
	t.Helper()
	raw, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	return stream.Message{Subject: SiteSubject(record.Site), Data: raw, Time: noon}
}

func TestT28_WatchersAreBoundedAndNobodyWaitsForThem(t *testing.T) {
	f := newFeed()
	var leaves []func()
	for i := range maxWatchersOne + 1 {
		leave, ok := f.enter("wild")
		if ok != (i < maxWatchersOne) {
			t.Errorf("watcher %d: %t", i, ok)
		}
		if ok {
			leaves = append(leaves, leave)
		}
	}
	if _, ok := f.enter("calm"); !ok {
		t.Error("another user is kept out")
	}
	for _, leave := range leaves {
		leave()
	}
	if _, ok := f.enter("wild"); !ok || f.watching != 2 {
		t.Errorf("%d watch", f.watching)
	}
	for range feedSize {
		f.put(note{site: "a"})
	}
	if notes, last, missing, _, _ := f.after(0); missing || len(notes) != 1 || last != feedSize {
		t.Errorf("%d notes of one site, missing %t", len(notes), missing)
	}
	f.put(note{event: &api.SiteEvent{}})
	if _, last, missing, _, _ := f.after(0); !missing || last != feedSize+1 {
		t.Error("who fell behind does not hear of it")
	}
	if notes, _, missing, _, _ := f.after(1); missing || len(notes) != 2 {
		t.Errorf("%d notes, missing %t", len(notes), missing)
	}
}
