package hub

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

func (h *Hub) getTokens(_ http.ResponseWriter, r *http.Request) ([]api.Token, error) {
	return h.Tokens(r.Context())
}

func (h *Hub) getEnrolments(_ http.ResponseWriter, r *http.Request) ([]enrol.Enrolment, error) {
	return h.Enrolments(r.Context())
}

func (h *Hub) getAuditVerdict(_ http.ResponseWriter, r *http.Request) (api.AuditVerdict, error) {
	return h.VerifyAudit(r.Context())
}

func (h *Hub) revokeSite(ctx context.Context, id bundle.SiteID, request api.Because, by string) error {
	return h.RevokeSite(ctx, id, by, request.Why)
}

func (h *Hub) releaseSite(ctx context.Context, id bundle.SiteID, _ api.Because, _ string) error {
	return h.ReleaseSite(ctx, id)
}

func (h *Hub) labelSite(ctx context.Context, id bundle.SiteID, change api.LabelChange, _ string) error {
	return h.LabelSite(ctx, id, change)
}

// rule makes an endpoint of a decision about a site; it answers with the site as it is then.
func rule[T any](h *Hub, carryOut func(ctx context.Context, id bundle.SiteID, request T, by string) error) func(http.ResponseWriter, *http.Request) (api.Site, error) {
	return func(w http.ResponseWriter, r *http.Request) (api.Site, error) {
		id, err := bundle.ParseSiteID(r.PathValue("site"))
		if err != nil {
			return api.Site{}, malformed("not a site's name", err)
		}
		request, err := decodeRequest[T](w, r)
		if err != nil {
			return api.Site{}, err
		}
		if err := h.allowed(r.Context(), id); err != nil {
			return api.Site{}, err
		}
		// A client that goes away does not leave it half done.
		if err := carryOut(context.WithoutCancel(r.Context()), id, request, who(r)); err != nil {
			return api.Site{}, err
		}
		return h.getSite(w, r)
	}
}

func (h *Hub) postToken(w http.ResponseWriter, r *http.Request) (api.TokenGrant, error) {
	request, err := decodeRequest[api.TokenRequest](w, r)
	if err != nil {
		return api.TokenGrant{}, err
	}
	return h.CreateToken(r.Context(), request, who(r))
}

func (h *Hub) postReplacement(w http.ResponseWriter, r *http.Request) (api.TokenGrant, error) {
	id, err := bundle.ParseSiteID(r.PathValue("site"))
	if err != nil {
		return api.TokenGrant{}, malformed("not a site's name", err)
	}
	request, err := decodeRequest[api.TokenRequest](w, r)
	if err != nil {
		return api.TokenGrant{}, err
	}
	if err := h.allowed(r.Context(), id); err != nil {
		return api.TokenGrant{}, err
	}
	return h.ReplaceSite(r.Context(), id, request, who(r))
}

func (h *Hub) postTokenRevocation(w http.ResponseWriter, r *http.Request) (api.Token, error) {
	if _, err := decodeRequest[api.Because](w, r); err != nil {
		return api.Token{}, err
	}
	return h.RevokeToken(r.Context(), r.PathValue("id"))
}

func (h *Hub) postDecision(w http.ResponseWriter, r *http.Request) (enrol.Enrolment, error) {
	decision, err := decodeRequest[api.Decision](w, r)
	if err != nil {
		return enrol.Enrolment{}, err
	}
	return h.DecideEnrolment(context.WithoutCancel(r.Context()), r.PathValue("key"), decision, who(r))
}

func (h *Hub) getAudit(w http.ResponseWriter, r *http.Request) ([]api.AuditRecord, error) {
	limit, err := limitAsked(r, defaultAudit, maxAudit)
	if err != nil {
		return nil, err
	}
	before := uint64(0)
	text, err := continueAsked(r)
	if err == nil && text != "" {
		before, err = strconv.ParseUint(text, 10, 64)
	}
	if err != nil {
		return nil, malformed("continue is not what a list gave", err)
	}
	records, older, err := h.auditPage(r.Context(), limit, before)
	if older != 0 {
		goOn(w, r, strconv.FormatUint(older, 10))
	}
	return records, err
}

// openDoors serves what needs no bearer token: who knocks there proves by a signature who it is.
func (h *Hub) openDoors(next http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/enrol", answer(h.knock("enrol", func(ctx context.Context, sealed []byte, from string) ([]byte, error) {
		return h.Enrol(ctx, sealed, from)
	})))
	mux.HandleFunc("POST /v1/renewal", answer(h.knock("renew", func(ctx context.Context, sealed []byte, _ string) ([]byte, error) {
		return h.Renew(ctx, sealed)
	})))
	mux.HandleFunc("GET /v1/renewal", answer(func(_ http.ResponseWriter, r *http.Request) (enrol.Challenge, error) {
		if !h.door.admits(h.cfg.Now(), addressOf(r)) {
			return enrol.Challenge{}, tooMany()
		}
		return h.Challenge(), nil
	}))
	mux.HandleFunc("GET /v1/trust/files/{name}", h.getTrustFile)
	mux.HandleFunc("GET /healthz", h.getHealth)
	mux.HandleFunc("GET /readyz", h.getReadiness)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, pattern := mux.Handler(r); pattern != "" {
			counted(r, pattern)
			mux.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// getTrustFile gives what the root of trust consists of to devices that are not let in to the bus. All of it is public and proves itself.
func (h *Hub) getTrustFile(w http.ResponseWriter, r *http.Request) {
	if !h.door.admits(h.cfg.Now(), addressOf(r)) {
		writeProblem(w, problemOf(tooMany()))
		return
	}
	name := r.PathValue("name")
	_, err := tuf.Path(name)
	var raw []byte
	if err == nil {
		raw, err = trustOnBus{h.store}.Get(r.Context(), name)
	} else {
		err = tuf.ErrNotFound
	}
	if errors.Is(err, tuf.ErrNotFound) {
		err = &enrol.Refusal{Reason: enrol.NotThere, What: fmt.Sprintf("trust metadata: there is no %.100q", name)}
	}
	if err != nil {
		writeProblem(w, problemOf(err))
		return
	}
	// As they are: their digests are signed.
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(raw)
}

// knock limits, bounds and carries out a request at an open door. Refusals are in the audit log, as far as a flood leaves room.
func (h *Hub) knock(what string, carryOut func(ctx context.Context, sealed []byte, from string) ([]byte, error)) func(http.ResponseWriter, *http.Request) (json.RawMessage, error) {
	return func(w http.ResponseWriter, r *http.Request) (json.RawMessage, error) {
		from := addressOf(r)
		if !h.door.admits(h.cfg.Now(), from) {
			h.noteHaste(r.Context(), "", from, 1)
			w.Header().Set("Retry-After", "20")
			return nil, tooMany()
		}
		ctx := context.WithoutCancel(r.Context())
		sealed, err := readBody(w, r, enrol.MaxRequest)
		var reply []byte
		if err == nil {
			reply, err = carryOut(ctx, sealed, from)
		}
		if err != nil {
			h.noteRefusal(ctx, from, what, err)
		}
		return reply, err
	}
}

// noteRefusal writes down who was refused what, as far as a flood leaves room.
func (h *Hub) noteRefusal(ctx context.Context, who, what string, err error) {
	refusal := problemOf(err)
	if refusal.Status >= http.StatusInternalServerError {
		return
	}
	note, missed := h.door.notes(h.cfg.Now())
	if !note {
		return
	}
	detail := refusal.Title
	if refusal.Detail != "" {
		detail += ": " + refusal.Detail
	}
	if missed > 0 {
		detail += fmt.Sprintf(" (and %d refusals that were not written down)", missed)
	}
	if err := h.audit(ctx, api.AuditRecord{Who: who, What: what, Outcome: refusal.Reason, Detail: detail}); err != nil {
		h.log.Warn("a refusal is not in the audit log", zap.Error(err))
	}
}

func tooMany() error {
	return &enrol.Refusal{Reason: enrol.TooMany, What: "too many requests", Advice: "try again in a while"}
}

// addressOf is where a request comes from, without the port.
func addressOf(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
