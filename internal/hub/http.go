package hub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// The times a client gets. Reading is long enough for the largest bundle over a slow line.
const (
	readHeaderTime = 10 * time.Second
	readTime       = 15 * time.Minute
	writeTime      = 15 * time.Minute
	idleTime       = 2 * time.Minute
	maxHeader      = 64 << 10 // bytes
	maxWhy         = 500      // bytes
)

// handler is the API.
func (h *Hub) handler() http.Handler {
	api := h.logged(h.pages(h.openDoors(h.admitted(h.routes()))))
	if h.cfg.around != nil {
		api = h.cfg.around(h, api)
	}
	return api
}

// newServer is the HTTP server of the API.
func (h *Hub) newServer() *http.Server {
	return &http.Server{
		Handler: &h.front, TLSConfig: h.certificates.tls(), ErrorLog: zap.NewStdLog(h.log.Named("http")),
		ReadHeaderTimeout: readHeaderTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime, MaxHeaderBytes: maxHeader,
	}
}

// statusOnly keeps the status of an answer and nothing else.
type statusOnly struct {
	header http.Header
	status int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(status int)      { s.status = status }

// admitted lets in who has a token that this hub knows, and hands on who that is.
func (h *Hub) admitted(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		now, from := h.cfg.Now(), addressOf(r)
		if wait := h.asks.from.take(now, from); wait > 0 {
			h.tooFast(w, r, "", "this address", wait)
			return
		}
		token, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !isBearer {
			token = ""
		}
		user, err := h.admit(r.Context(), token)
		if err != nil {
			if wait := h.asks.failed.take(now, from); wait > 0 {
				h.tooFast(w, r, "", "failed logins", wait)
				return
			}
			h.noteRefusal(context.WithoutCancel(r.Context()), cmp.Or(user.name, from), "log in", err)
			w.Header().Set("WWW-Authenticate", `Bearer realm="holdfast"`)
			writeProblem(w, problemOf(err))
			return
		}
		if wait := h.asks.ofUser.take(now, user.name); wait > 0 {
			h.tooFast(w, r, user.name, "user "+user.name, wait)
			return
		}
		h.noteHaste(r.Context(), user.name, "", 0)
		next.ServeHTTP(w, r.WithContext(withActor(r.Context(), user)))
	})
}

// logged writes one line a request at debug. Headers, which hold the token, and bodies are left out.
func (h *Hub) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := time.Now()
		recorder := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		r, route := withRoute(r)
		next.ServeHTTP(recorder, r)
		h.metrics.answered(*route, recorder.status, time.Since(begun))
		h.log.Debug("request", zap.String("method", r.Method), zap.String("path", r.URL.Path), zap.Int("status", recorder.status), zap.Duration("took", time.Since(begun)))
	})
}

type statusRecorder struct {
	http.ResponseWriter
	status int
}

func (s *statusRecorder) WriteHeader(status int) {
	s.status = status
	s.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController and MaxBytesReader reach the connection.
func (s *statusRecorder) Unwrap() http.ResponseWriter { return s.ResponseWriter }

// answer makes a handler of a function that gives a value or an error.
func answer[T any](endpoint func(w http.ResponseWriter, r *http.Request) (T, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		value, err := endpoint(w, r)
		if err != nil {
			writeProblem(w, problemOf(err))
			return
		}
		writeJSON(w, http.StatusOK, "application/json", value)
	}
}

func writeProblem(w http.ResponseWriter, problem api.Problem) {
	writeJSON(w, problem.Status, api.ProblemType, problem)
}

func writeJSON(w http.ResponseWriter, status int, kind string, value any) {
	raw, err := json.Marshal(value)
	if err != nil {
		http.Error(w, "the answer cannot be encoded", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The client is gone if this fails; there is nobody left to tell.
	_, _ = w.Write(append(raw, '\n'))
}

// readBody reads a body of at most limit bytes; a larger one is refused as soon as that is known.
func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	tooLarge := refuse(http.StatusRequestEntityTooLarge, "TooLarge", "the request is too large", fmt.Sprintf("at most %d bytes", limit), "")
	if r.ContentLength > limit {
		return nil, tooLarge
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
	var over *http.MaxBytesError
	switch {
	case errors.As(err, &over):
		return nil, tooLarge
	case err != nil:
		return nil, malformed("the request cannot be read", err)
	}
	return body, nil
}

// bodyOf is the request of an endpoint; one whose requests are empty reads none.
func bodyOf[In any](w http.ResponseWriter, r *http.Request) (request In, err error) {
	if _, none := any(request).(struct{}); none {
		return request, nil
	}
	return decodeRequest[In](w, r)
}

// decodeRequest reads a JSON body strictly.
func decodeRequest[T any](w http.ResponseWriter, r *http.Request) (request T, err error) {
	body, err := readBody(w, r, api.MaxRequest)
	if err != nil {
		return request, err
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&request); err != nil {
		return request, malformed("the request is not what this endpoint takes", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return request, malformed("the request is not what this endpoint takes", errors.New("bytes after the JSON value"))
	}
	why := whyOf(request)
	if len(why) > maxWhy {
		return request, malformed("the reason is too long", fmt.Errorf("%d bytes, more than the %d allowed", len(why), maxWhy))
	}
	remark(r.Context(), why)
	return request, nil
}

// whyOf is the reason that a request gives.
func whyOf(request any) string {
	switch request := request.(type) {
	case api.Because:
		return request.Why
	case api.Decommission:
		return request.Why
	case api.Decision:
		return request.Why
	case api.RolloutAct:
		return request.Why
	case api.AssignRequest:
		return request.Why
	}
	return ""
}

func (h *Hub) getVersion(http.ResponseWriter, *http.Request) (api.Version, error) {
	return api.Version{Version: buildinfo.Version(), Fleet: h.trust().Fleet, Warnings: said(h.concerns())}, nil
}

func (h *Hub) postBundle(w http.ResponseWriter, r *http.Request) (api.Bundle, error) {
	file, err := readBody(w, r, api.MaxFile)
	if err != nil {
		return api.Bundle{}, err
	}
	// A client that goes away does not leave a push half done.
	pushed, err := h.Push(context.WithoutCancel(r.Context()), file)
	h.metrics.pushed(pushed, err)
	return pushed, err
}

func (h *Hub) getBundles(w http.ResponseWriter, r *http.Request) ([]api.Bundle, error) {
	sites, err := h.sitesAsked(r)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	bundles := h.view.Bundles(h.cfg.Now(), sites)
	h.mu.Unlock()
	return pageOf(w, r, bundles, func(b api.Bundle) string { return fmt.Sprintf("%s\x00%020d\x00%s", b.Name, b.Counter, b.Version) })
}

func refOf(r *http.Request) (bundle.Ref, error) {
	ref, err := bundle.ParseRef(r.PathValue("name") + "@" + r.PathValue("version"))
	if err != nil {
		return ref, malformed("not a bundle", err)
	}
	return ref, nil
}

func (h *Hub) getBundle(_ http.ResponseWriter, r *http.Request) (api.Bundle, error) {
	ref, err := refOf(r)
	if err != nil {
		return api.Bundle{}, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	b, known := h.view.Bundle(h.cfg.Now(), ref, actorOf(r.Context()).sites)
	if !known {
		return b, unknownBundle(ref)
	}
	return b, nil
}

func (h *Hub) getBundleFile(w http.ResponseWriter, r *http.Request) {
	ref, err := refOf(r)
	if err == nil {
		var file []byte
		if file, err = h.BundleFile(r.Context(), ref); err == nil {
			w.Header().Set("Content-Type", "application/octet-stream")
			w.Header().Set("X-Content-Type-Options", "nosniff")
			w.Header().Set("Content-Length", strconv.Itoa(len(file)))
			_, _ = w.Write(file)
			return
		}
	}
	writeProblem(w, problemOf(err))
}

func (h *Hub) postSite(w http.ResponseWriter, r *http.Request) (api.SiteGrant, error) {
	request, err := decodeRequest[api.SiteRequest](w, r)
	if err != nil {
		return api.SiteGrant{}, err
	}
	if a := actorOf(r.Context()); !a.sees(request.Labels) {
		return api.SiteGrant{}, outOfScope(a, request.ID)
	}
	return h.AddSite(r.Context(), request)
}

func (h *Hub) getSites(w http.ResponseWriter, r *http.Request) ([]api.Site, error) {
	asked, err := h.sitesAsked(r)
	if err != nil {
		return nil, err
	}
	freshness, err := freshnessAsked(r)
	if err != nil {
		return nil, err
	}
	now := h.cfg.Now()
	h.mu.Lock()
	ids := h.view.idsOf(now, asked, freshness)
	h.mu.Unlock()
	if ids, err = pageOf(w, r, ids, func(id bundle.SiteID) string { return string(id) }); err != nil {
		return nil, err
	}
	sites := make([]api.Site, 0, len(ids))
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if site, known := h.view.Site(now, id); known {
			sites = append(sites, site)
		}
	}
	return sites, nil
}

func (h *Hub) getSite(_ http.ResponseWriter, r *http.Request) (api.Site, error) {
	id, err := bundle.ParseSiteID(r.PathValue("site"))
	if err != nil {
		return api.Site{}, malformed("not a site's name", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	site, known := h.view.Site(h.cfg.Now(), id)
	if !known || !actorOf(r.Context()).sees(site.Labels) {
		return api.Site{}, unknownSite(id)
	}
	return site, nil
}

func (h *Hub) postAssignment(w http.ResponseWriter, r *http.Request) ([]api.AssignResult, error) {
	request, err := decodeRequest[api.AssignRequest](w, r)
	if err != nil {
		return nil, err
	}
	if err := h.allowed(r.Context(), request.Sites...); err != nil {
		return nil, err
	}
	results, err := h.Assign(r.Context(), request)
	for i := range results {
		results[i].Why = request.Why
	}
	return results, err
}

func (h *Hub) postUnassignment(w http.ResponseWriter, r *http.Request) ([]api.AssignResult, error) {
	request, err := decodeRequest[api.UnassignRequest](w, r)
	if err != nil {
		return nil, err
	}
	if err := h.allowed(r.Context(), request.Sites...); err != nil {
		return nil, err
	}
	return h.Unassign(r.Context(), request)
}

// siteAsked is the site of the query, or empty for all. A site that is not known, or not in the user's scope, is refused.
func (h *Hub) siteAsked(r *http.Request) (bundle.SiteID, error) {
	text := r.URL.Query().Get("site")
	if text == "" {
		return "", nil
	}
	id, err := bundle.ParseSiteID(text)
	if err != nil {
		return "", malformed("not a site's name", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if record, known := h.view.Record(id); !known || !actorOf(r.Context()).sees(record.Labels) {
		return "", unknownSite(id)
	}
	return id, nil
}

func (h *Hub) getDrift(w http.ResponseWriter, r *http.Request) ([]api.SiteDrift, error) {
	site, err := h.siteAsked(r)
	if err != nil {
		return nil, err
	}
	asked, err := h.sitesAsked(r)
	if err != nil {
		return nil, err
	}
	freshness, err := freshnessAsked(r)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	drift := h.view.Drift(h.cfg.Now(), site, asked)
	h.mu.Unlock()
	if freshness != "" {
		drift = slices.DeleteFunc(drift, func(d api.SiteDrift) bool { return d.Freshness != freshness })
	}
	key := func(d api.SiteDrift) string { return string(d.Site) + "\x00" + string(d.Bundle) }
	slices.SortStableFunc(drift, func(a, b api.SiteDrift) int { return strings.Compare(key(a), key(b)) })
	return pageOf(w, r, drift, key)
}

func (h *Hub) getEvents(w http.ResponseWriter, r *http.Request) ([]api.SiteEvent, error) {
	choice := eventChoice{}
	var err error
	if choice.site, err = h.siteAsked(r); err != nil {
		return nil, err
	}
	if choice.sites, err = h.sitesAsked(r); err != nil {
		return nil, err
	}
	if choice.since, err = timeAsked(r, "since"); err != nil {
		return nil, err
	}
	if choice.limit, err = limitAsked(r, defaultEvents, maxEvents); err != nil {
		return nil, err
	}
	if err := choice.goOn(r); err != nil {
		return nil, err
	}
	events, older, err := h.Events(r.Context(), choice)
	if older != "" {
		goOn(w, r, older)
	}
	return events, err
}

// getStory tells the events that getEvents lists.
func (h *Hub) getStory(w http.ResponseWriter, r *http.Request) ([]api.StoryLine, error) {
	events, err := h.getEvents(w, r)
	if err != nil {
		return nil, err
	}
	told := map[bundle.SiteID]api.Site{}
	h.mu.Lock()
	for _, event := range events {
		if _, has := told[event.Site]; !has {
			told[event.Site], _ = h.view.Site(h.cfg.Now(), event.Site)
		}
	}
	h.mu.Unlock()
	sites := slices.Collect(maps.Values(told))
	story := api.NewStory(sites...)
	lines := story.Tell(events...)
	if r.URL.Query().Get("continue") == "" { // a page of older events says nothing of now
		lines = append(lines, story.End(sites...)...)
	}
	return lines, nil
}
