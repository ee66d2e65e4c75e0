package hub

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
	"github.com/holdfast-fleet/holdfast/internal/rollout"
	"github.com/holdfast-fleet/holdfast/internal/web"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

const (
	refreshPages = 5   // seconds
	pageEvents   = 300 // of a site's timeline
	maxLogin     = 4096
)

// pages serves the web pages below /ui/ and hands on everything else. A page asks the API of this hub, as the user who is logged in and through
// the very same guards, so that no page shows what the API would not.
func (h *Hub) pages(next http.Handler) http.Handler {
	asked := h.routes()
	mux := http.NewServeMux()
	page := func(pattern string, f func(w http.ResponseWriter, r *http.Request, p *pageRequest) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if p := h.pageRequest(w, r, asked); p != nil {
				if err := f(w, r, p); err != nil {
					p.refuse(w, problemOf(err))
				}
			}
		})
	}
	page("GET /ui/{$}", h.fleetPage)
	page("GET /ui/sites/{site}", h.sitePage)
	page("GET /ui/rollouts", h.rolloutsPage)
	page("GET /ui/rollouts/{id}", h.rolloutPage)
	page("GET /ui/drift", h.driftPage)
	page("GET /ui/bundles", h.bundlesPage)
	mux.Handle("GET /ui/static/{file}", web.Static())
	mux.HandleFunc("GET /ui/login", func(w http.ResponseWriter, r *http.Request) { h.show(w, http.StatusOK, "login", h.frame("Log in"), "") })
	// Nobody else's page may log a browser in or out.
	ours := http.NewCrossOriginProtection()
	mux.Handle("POST /ui/login", ours.Handler(http.HandlerFunc(h.postLogin)))
	mux.Handle("POST /ui/logout", ours.Handler(http.HandlerFunc(h.postLogout)))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/" && r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html"), r.URL.Path == "/ui":
			http.Redirect(w, r, "/ui/", http.StatusSeeOther)
		case !strings.HasPrefix(r.URL.Path, "/ui/"):
			next.ServeHTTP(w, r)
		default:
			_, pattern := mux.Handler(r)
			counted(r, cmp.Or(pattern, "none"))
			mux.ServeHTTP(w, r)
		}
	})
}

// pageRequest is a request for a page of somebody who is logged in.
type pageRequest struct {
	hub   *Hub
	r     *http.Request // as that user
	api   http.Handler
	frame web.Frame
}

// pageRequest lets in who has a session whose token still opens something; anybody else is sent to the login.
func (h *Hub) pageRequest(w http.ResponseWriter, r *http.Request, asked http.Handler) *pageRequest {
	if token, ok := h.sessions.token(h.cfg.Now(), sessionOf(r)); ok {
		user, err := h.admit(r.Context(), token)
		if err == nil {
			if wait := h.asks.ofUser.take(h.cfg.Now(), user.name); wait > 0 {
				h.tooFast(w, r, user.name, "user "+user.name, wait)
				return nil
			}
			frame := h.frame("")
			frame.User, frame.Role, frame.Refresh = user.name, string(user.role), refreshPages
			return &pageRequest{h, r.WithContext(withActor(r.Context(), user)), asked, frame}
		}
		h.sessions.end(sessionOf(r))
	}
	http.Redirect(w, r, "/ui/login", http.StatusSeeOther)
	return nil
}

func (h *Hub) frame(title string) web.Frame {
	return web.Frame{Title: title, Fleet: h.trust().Fleet, Version: buildinfo.Version(), Now: h.cfg.Now()}
}

// show answers with a page, and with every header that keeps a browser from doing more with it.
func (h *Hub) show(w http.ResponseWriter, status int, name string, frame web.Frame, value any) {
	frame.Page = value
	if frame.User == "" {
		frame.Fleet, frame.Version = "", "" // who is not logged in learns nothing
	}
	raw, err := web.Render(name, frame)
	if err != nil {
		h.log.Error("a page cannot be made", zap.Error(err))
		http.Error(w, "the page cannot be made", http.StatusInternalServerError)
		return
	}
	header := w.Header()
	for key, value := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": web.Policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
		"Cache-Control": "no-store", "Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY",
		"Permissions-Policy": "camera=(), geolocation=(), microphone=()",
	} {
		header.Set(key, value)
	}
	w.WriteHeader(status)
	_, _ = w.Write(raw)
}

func (p *pageRequest) show(w http.ResponseWriter, name, title, active string, value any) error {
	p.frame.Title, p.frame.Active = title, active
	p.hub.show(w, http.StatusOK, name, p.frame, value)
	return nil
}

func (p *pageRequest) refuse(w http.ResponseWriter, problem api.Problem) {
	p.frame.Title, p.frame.Refresh = problem.Title, 0
	p.hub.show(w, problem.Status, "problem", p.frame, problem)
}

// asks is what the API answers to a GET of the user's.
func asks[T any](p *pageRequest, query url.Values, path ...string) (value T, err error) {
	for i, element := range path {
		path[i] = url.PathEscape(element)
	}
	r := p.r.Clone(p.r.Context())
	r.Method, r.Body, r.Pattern = http.MethodGet, http.NoBody, ""
	if r.URL, err = url.Parse("/v1/" + strings.Join(path, "/")); err != nil {
		return value, fmt.Errorf("page: %w", err)
	}
	r.URL.RawQuery = query.Encode()
	answer := &kept{statusOnly: statusOnly{header: http.Header{}}}
	p.api.ServeHTTP(answer, r)
	if answer.status == http.StatusOK {
		if err := json.Unmarshal(answer.body.Bytes(), &value); err != nil {
			return value, fmt.Errorf("page: %w", err)
		}
		return value, nil
	}
	var problem api.Problem
	if err := json.Unmarshal(answer.body.Bytes(), &problem); err != nil || problem.Status == 0 {
		return value, fmt.Errorf("page: the API answers with status %d", answer.status)
	}
	return value, &api.Error{Problem: problem}
}

// kept keeps an answer.
type kept struct {
	statusOnly
	body bytes.Buffer
}

func (k *kept) Write(b []byte) (int, error) { return k.body.Write(b) }

func (h *Hub) postLogin(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, why string) { h.show(w, status, "login", h.frame("Log in"), why) }
	now, from := h.cfg.Now(), addressOf(r)
	if h.asks.from.take(now, from) > 0 {
		h.noteHaste(r.Context(), "", from, 1)
		refuse(http.StatusTooManyRequests, "Too many tries from here: wait a little.")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxLogin)
	if err := r.ParseForm(); err != nil {
		refuse(http.StatusBadRequest, "That cannot be read.")
		return
	}
	token := strings.TrimSpace(r.PostForm.Get("token"))
	user, err := h.admit(r.Context(), token)
	if err != nil {
		if h.asks.failed.take(now, from) > 0 {
			h.noteHaste(r.Context(), "", from, 1)
			refuse(http.StatusTooManyRequests, "Too many tries from here: wait a little.")
			return
		}
		h.noteRefusal(context.WithoutCancel(r.Context()), from, "log in", err)
		refuse(http.StatusUnauthorized, "This token opens nothing here: "+cmp.Or(problemOf(err).Detail, "it is not known")+".")
		return
	}
	h.sessions.end(sessionOf(r)) // the name of a session from before is never taken over
	http.SetCookie(w, cookie(h.sessions.open(h.cfg.Now(), user.name, token)))
	http.Redirect(w, r, "/ui/", http.StatusSeeOther)
}

func (h *Hub) postLogout(w http.ResponseWriter, r *http.Request) {
	h.sessions.end(sessionOf(r))
	http.SetCookie(w, cookie(""))
	http.Redirect(w, r, "/ui/login", http.StatusSeeOther)
}

func (h *Hub) fleetPage(w http.ResponseWriter, _ *http.Request, p *pageRequest) error {
	query := p.r.URL.Query()
	labels, show := query.Get("labels"), api.Standing(query.Get("show"))
	if !slices.Contains(api.Standings, show) {
		show = ""
	}
	number, _ := strconv.Atoi(query.Get("page")) // what is no number is the first page
	var sites []api.Site
	_, err := bundle.ParseSelector(labels)
	if err == nil {
		// Not through the API: a large fleet in JSON costs more than the page.
		if sites, err = h.getSites(w, p.r); err != nil {
			return err
		}
	}
	page := web.NewFleet(p.frame.Now, h.cfg.HeartBeat, sites, show, number)
	page.Labels = labels
	if err != nil {
		page.Wrong = err.Error()
	}
	return p.show(w, "fleet", "Fleet", "fleet", page)
}

func (h *Hub) sitePage(w http.ResponseWriter, r *http.Request, p *pageRequest) error {
	id := r.PathValue("site")
	site, err := asks[api.Site](p, nil, "sites", id)
	if err != nil {
		return err
	}
	drift, err := asks[[]api.SiteDrift](p, url.Values{"site": {id}}, "drift")
	if err != nil {
		return err
	}
	events, err := asks[[]api.SiteEvent](p, url.Values{"site": {id}, "limit": {strconv.Itoa(pageEvents)}}, "events")
	if err != nil {
		return err
	}
	return p.show(w, "site", id, "fleet", web.NewSite(p.frame.Now, h.cfg.HeartBeat, site, drift, events, pageEvents))
}

func (h *Hub) rolloutsPage(w http.ResponseWriter, _ *http.Request, p *pageRequest) error {
	rollouts, err := asks[[]api.Rollout](p, nil, "rollouts")
	if err != nil {
		return err
	}
	return p.show(w, "rollouts", "Rollouts", "rollouts", rollouts)
}

func (h *Hub) rolloutPage(w http.ResponseWriter, r *http.Request, p *pageRequest) error {
	id := r.PathValue("id")
	one, err := asks[api.Rollout](p, nil, "rollouts", id)
	if err != nil {
		return err
	}
	explanation, err := asks[rollout.Explanation](p, nil, "rollouts", id, "explanation")
	if err != nil {
		return err
	}
	return p.show(w, "rollout", id, "rollouts", web.RolloutPage{Rollout: one, Explanation: explanation})
}

func (h *Hub) driftPage(w http.ResponseWriter, _ *http.Request, p *pageRequest) error {
	drift, err := asks[[]api.SiteDrift](p, nil, "drift")
	if err != nil {
		return err
	}
	return p.show(w, "drift", "Drift", "drift", web.NewDrift(drift))
}

func (h *Hub) bundlesPage(w http.ResponseWriter, _ *http.Request, p *pageRequest) error {
	bundles, err := asks[[]api.Bundle](p, nil, "bundles")
	if err != nil {
		return err
	}
	return p.show(w, "bundles", "Bundles", "bundles", bundles)
}
