package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

const (
	// watchBeat is how often a watcher hears that the hub is still there, and the hub looks whether the user still may watch.
	watchBeat = 15 * time.Second
	// watchPatience is how long a watcher may take no bytes before it is cut off.
	watchPatience = 30 * time.Second
)

var (
	kindsAsk   = parameter{"kinds", "sites, events, rollouts, joined by commas; all of them otherwise", textSchema}
	watchKinds = []string{"sites", "events", "rollouts"}
)

// getWatch tells what happens as server-sent events: "site" with a Site, "event" with a SiteEvent, "rollout" with a Rollout. After "reset" something is
// missing, and the lists have to be read again; so are they after the first answer, which goes on from now. Last-Event-ID goes on from there.
// That a site falls silent is no event: its lastSeen says so. A user with a scope is told of the rollouts that touch the sites in it, each as far as it does.
func (h *Hub) getWatch(w http.ResponseWriter, r *http.Request) {
	sites, err := h.sitesAsked(r)
	var kinds []string
	if err == nil {
		kinds, err = kindsAsked(r)
	}
	var only bundle.SiteID
	if err == nil {
		only, err = h.siteAsked(r)
	}
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	user := actorOf(r.Context())
	leave, ok := h.feed.enter(user.name)
	if !ok {
		h.tooFast(w, r, user.name, "those who watch", watchBeat)
		return
	}
	defer leave()
	t := &teller{ctx: r.Context(), hub: h, w: w, control: http.NewResponseController(w), sites: sites, only: only, kinds: kinds, whole: user.scope.Empty()}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	number, known := h.feed.resume(r.Header.Get("Last-Event-ID"))
	if err := t.begin(number, known); err != nil {
		return
	}
	beat := time.NewTicker(watchBeat)
	defer beat.Stop()
	for {
		notes, last, missing, woken, closed := h.feed.after(number)
		// The user is asked after the notes are taken: who was revoked before one of them is not told it.
		if closed || h.users.shutOut(user, h.cfg.Now()) || t.tell(notes, last, missing) != nil {
			return
		}
		number = last
		select {
		case <-woken:
		case <-beat.C:
			if t.say(": beat\n\n") != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

func kindsAsked(r *http.Request) ([]string, error) {
	text := r.URL.Query().Get("kinds")
	if text == "" {
		return watchKinds, nil
	}
	kinds := strings.Split(text, ",")
	for _, kind := range kinds {
		if !slices.Contains(watchKinds, kind) {
			return nil, malformed("not what can be watched", fmt.Errorf("%.40q: want %s", kind, strings.Join(watchKinds, ", ")))
		}
	}
	return kinds, nil
}

// teller writes to one watcher.
type teller struct {
	ctx     context.Context // of the request, with its user
	hub     *Hub
	w       http.ResponseWriter
	control *http.ResponseController
	sites   access.Sites
	only    bundle.SiteID // empty: all of them
	kinds   []string
	whole   bool // the user has no scope
}

func (t *teller) begin(number uint64, known bool) error {
	if !known {
		return t.reset(number)
	}
	return t.say(fmt.Sprintf("id: %s\n: since then\n\n", t.hub.feed.id(number)))
}

func (t *teller) reset(number uint64) error {
	return t.say(fmt.Sprintf("id: %s\nevent: reset\ndata: {}\n\n", t.hub.feed.id(number)))
}

// say writes and waits until it is on its way, no longer than the watcher's patience.
func (t *teller) say(text string) error {
	err := t.control.SetWriteDeadline(time.Now().Add(watchPatience))
	if err == nil {
		_, err = io.WriteString(t.w, text)
	}
	return errors.Join(err, t.control.Flush())
}

func (t *teller) tell(notes []note, last uint64, missing bool) error {
	if missing {
		return t.reset(last)
	}
	var b strings.Builder
	for _, n := range notes {
		kind, value := t.of(n)
		if value == nil {
			continue
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "id: %s\nevent: %s\ndata: %s\n\n", t.hub.feed.id(n.number), kind, raw)
	}
	if b.Len() == 0 {
		return nil
	}
	return t.say(b.String())
}

// of is what the watcher is told of a note; nil for one that it did not ask for or may not see.
func (t *teller) of(n note) (kind string, value any) {
	switch {
	case n.rollout != nil:
		return t.ofRollout(n.rollout)
	case n.event != nil && !slices.Contains(t.kinds, "events"), n.event == nil && !slices.Contains(t.kinds, "sites"):
		return "", nil
	case t.only != "" && n.site != t.only:
		return "", nil
	}
	t.hub.mu.Lock()
	defer t.hub.mu.Unlock()
	record, known := t.hub.view.Record(n.site)
	if !known || !t.sites.Has(record.Labels) {
		return "", nil
	}
	if n.event != nil {
		return "event", n.event
	}
	site, _ := t.hub.view.Site(t.hub.cfg.Now(), n.site)
	return "site", site
}

// ofRollout is what of a rollout the watcher may see, as it is now. Where the store does not tell, the watcher has to look at the list again.
func (t *teller) ofRollout(r *api.Rollout) (kind string, value any) {
	switch {
	case !slices.Contains(t.kinds, "rollouts"):
		return "", nil
	case t.whole:
		return "rollout", r
	}
	part, err := t.hub.rolloutPart(t.ctx, r.ID, t.hub.inScope(t.ctx))
	var unknown *api.Error
	switch {
	case errors.As(err, &unknown), err == nil && part.Sites == 0:
		return "", nil
	case err != nil:
		return "reset", struct{}{}
	}
	return "rollout", part
}
