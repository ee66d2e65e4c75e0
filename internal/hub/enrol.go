package hub

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Enrol answers a device's sealed request; from is its network address. The same request again gets the same answer.
func (h *Hub) Enrol(ctx context.Context, sealed []byte, from string) (reply []byte, err error) {
	request, err := enrol.OpenRequest(sealed)
	if err != nil {
		return nil, err
	}
	id, err := enrol.IDOf(request.Token)
	if err != nil {
		return nil, err
	}
	// Decisions of this hub are made one after another; those of others show as conflicts.
	h.enrolling.Lock()
	defer h.enrolling.Unlock()
	for range assignTries {
		standing, err := h.decide(ctx, id, request, from)
		if errors.Is(err, stream.ErrConflict) {
			continue
		}
		if err != nil {
			return nil, err
		}
		return h.replyTo(ctx, request, standing)
	}
	return nil, fmt.Errorf("enrolment: %w %d times", stream.ErrConflict, assignTries)
}

// decide carries out one decision. What is written comes in the order in which the same request again completes it after a crash.
func (h *Hub) decide(ctx context.Context, id string, request enrol.Request, from string) (enrol.Enrolment, error) {
	token, tokenSequence, err := h.token(ctx, id)
	if err != nil {
		return enrol.Enrolment{}, err
	}
	known, sequence, err := h.enrolment(ctx, request.Key)
	if err != nil {
		return enrol.Enrolment{}, err
	}
	decision, err := enrol.Decide(h.cfg.Now(), request, from, enrol.Known{Token: token, Enrolment: known, Holder: h.holder(request.Key), At: h.occupant})
	if err != nil {
		return enrol.Enrolment{}, err
	}
	if decision.Token != nil {
		raw, err := json.Marshal(decision.Token)
		if err == nil {
			err = h.putIf(ctx, TokenSubject(id), raw, tokenSequence)
		}
		if err != nil {
			return enrol.Enrolment{}, fmt.Errorf("token %s: %w", id, err)
		}
	}
	if decision.Enrolment != nil {
		if err := h.keepEnrolment(ctx, *decision.Enrolment, sequence); err != nil {
			return enrol.Enrolment{}, err
		}
		record := api.AuditRecord{Who: "device " + decision.Answer.Fingerprint, What: "enrol", Target: string(decision.Answer.Site), Outcome: string(enrol.Pending), Detail: "token " + id + " from " + from}
		if err := h.audit(ctx, record); err != nil {
			return enrol.Enrolment{}, err
		}
	}
	if !decision.Approve {
		return decision.Answer, nil
	}
	return h.approve(ctx, decision.Answer.Key, "token "+id, true)
}

// enrolment reads what became of a key; nil where nothing did.
func (h *Hub) enrolment(ctx context.Context, key ed25519.PublicKey) (*enrol.Enrolment, uint64, error) {
	if len(key) != ed25519.PublicKeySize {
		return nil, 0, &enrol.Refusal{Reason: enrol.Malformed, What: fmt.Sprintf("a key of %d bytes", len(key))}
	}
	m, err := h.store.Get(ctx, EnrolSubject(key))
	if errors.Is(err, fleetsync.ErrNotFound) {
		return nil, 0, nil
	}
	var e enrol.Enrolment
	if err == nil {
		err = decodeRecord(m.Data, &e)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("enrolment %s: %w", enrol.Fingerprint(key), err)
	}
	return &e, m.Sequence, nil
}

func (h *Hub) keepEnrolment(ctx context.Context, e enrol.Enrolment, sequence uint64) error {
	raw, err := json.Marshal(e)
	if err == nil {
		err = h.putIf(ctx, EnrolSubject(e.Key), raw, sequence)
	}
	if err != nil {
		return fmt.Errorf("enrolment %s: %w", e.Fingerprint, err)
	}
	return nil
}

func (h *Hub) occupant(id bundle.SiteID) *enrol.Occupant {
	h.mu.Lock()
	defer h.mu.Unlock()
	record, known := h.view.Record(id)
	if !known {
		return nil
	}
	return record.occupant()
}

func (h *Hub) holder(key ed25519.PublicKey) *enrol.Occupant {
	h.mu.Lock()
	id, held := h.view.HolderOf(key)
	h.mu.Unlock()
	switch {
	case held:
		return h.occupant(id)
	case key.Equal(h.signing().public):
		return &enrol.Occupant{Site: "hub", Key: h.signing().public}
	}
	return nil
}

// approve makes the site of a pending key, and then says so in the enrolment: a crash in between leaves it pending and the site there, which
// the next approval finds and completes. note writes it into the audit log, where no operator's request does.
func (h *Hub) approve(ctx context.Context, key ed25519.PublicKey, by string, note bool) (enrol.Enrolment, error) {
	e, sequence, err := h.enrolment(ctx, key)
	if err != nil {
		return enrol.Enrolment{}, err
	}
	if e == nil || e.Status == enrol.Approved {
		if e == nil {
			return enrol.Enrolment{}, notPending(enrol.Fingerprint(key))
		}
		return *e, nil
	}
	if err := enrol.CheckSite(e.Site, e.Key, e.Replaces, h.occupant(e.Site), h.holder(e.Key)); err != nil {
		return *e, err
	}
	if err := h.settle(ctx, *e); err != nil {
		return *e, err
	}
	now := h.cfg.Now().UTC().Truncate(time.Millisecond)
	e.Status, e.By, e.Decided, e.Why = enrol.Approved, by, &now, ""
	if note {
		record := api.AuditRecord{Who: by, What: "site decide", Target: string(e.Site), Outcome: string(e.Status), Detail: "key " + e.Fingerprint}
		// Before the last write: a crash here writes it twice rather than never.
		if err := h.audit(ctx, record); err != nil {
			return *e, err
		}
	}
	return *e, h.keepEnrolment(ctx, *e, sequence)
}

// settle makes the site, or gives it the new key where this replaces it.
func (h *Hub) settle(ctx context.Context, e enrol.Enrolment) error {
	public, err := nkeys.Encode(nkeys.PrefixByteUser, e.Key)
	if err != nil {
		return fmt.Errorf("site %s: key: %w", e.Site, err)
	}
	now := h.cfg.Now().UTC().Truncate(time.Millisecond)
	if !e.Replaces {
		record := SiteRecord{Site: e.Site, Labels: e.Labels, PublicKey: string(public), Key: e.Key, Added: now}
		if there := h.occupant(e.Site); there != nil {
			return nil // CheckSite: with this very key
		}
		return h.keepSite(ctx, record)
	}
	_, err = h.changeSite(ctx, e.Site, func(r *SiteRecord) (bool, error) {
		if e.Key.Equal(r.Key) {
			return false, nil
		}
		r.Former = append(slices.Clone(r.Former), FormerKey{r.PublicKey, r.Key, formerUntil(*r, now)})
		r.PublicKey, r.Key, r.Revoked, r.Held, r.Settled = string(public), e.Key, nil, nil, &now
		return true, nil
	})
	if err != nil {
		return err
	}
	return h.shutOut()
}

// formerUntil is up to when a key that is replaced counts: not beyond its revocation.
func formerUntil(r SiteRecord, now time.Time) time.Time {
	if r.Revoked != nil {
		return r.Revoked.At
	}
	return now
}

// replyTo signs the answer to a request, bound to its nonce and key.
func (h *Hub) replyTo(ctx context.Context, request enrol.Request, e enrol.Enrolment) ([]byte, error) {
	reply := enrol.Reply{Nonce: request.Nonce, Key: request.Key, Status: e.Status, Site: e.Site, Why: e.Why}
	if e.Status == enrol.Approved {
		record, _, err := h.siteRecord(ctx, e.Site)
		if err != nil {
			return nil, err
		}
		// It was approved once; whether it still is the site is asked now.
		if err := enrol.CheckSite(e.Site, e.Key, false, record.occupant(), nil); err != nil {
			return nil, err
		}
		token, err := h.credential(record)
		if err != nil {
			return nil, err
		}
		reply.Grant = &enrol.Grant{Servers: h.servers, CA: h.busCA(), JWT: token, HeartBeat: int(h.cfg.HeartBeat / time.Second)}
	}
	return fleetsync.Seal(enrol.TypeReply, reply, h.signing().private)
}

// Enrolments are the devices that asked to join, those first that wait for a decision, then the newest.
func (h *Hub) Enrolments(ctx context.Context) ([]enrol.Enrolment, error) {
	all := []enrol.Enrolment{}
	err := h.store.Each(ctx, stream.Tokens, "hf.enrol.*", 1, func(m stream.Message) error {
		var e enrol.Enrolment
		if err := decodeRecord(m.Data, &e); err != nil {
			return fmt.Errorf("%s: %w", m.Subject, err)
		}
		all = append(all, e)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("enrolments: %w", err)
	}
	waits := func(e enrol.Enrolment) int {
		if e.Status == enrol.Pending {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(all, func(a, b enrol.Enrolment) int {
		return cmp.Or(waits(a)-waits(b), b.First.Compare(a.First), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	return all, nil
}

// DecideEnrolment approves or rejects the device whose key has the fingerprint, all of it.
func (h *Hub) DecideEnrolment(ctx context.Context, fingerprint string, decision api.Decision, by string) (enrol.Enrolment, error) {
	all, err := h.Enrolments(ctx)
	if err != nil {
		return enrol.Enrolment{}, err
	}
	i := slices.IndexFunc(all, func(e enrol.Enrolment) bool { return e.Fingerprint == fingerprint })
	if i < 0 {
		return enrol.Enrolment{}, notPending(fingerprint)
	}
	h.enrolling.Lock()
	defer h.enrolling.Unlock()
	if decision.Approve {
		return h.approve(ctx, all[i].Key, by, false)
	}
	e, sequence, err := h.enrolment(ctx, all[i].Key)
	if err != nil {
		return enrol.Enrolment{}, err
	}
	switch {
	case e == nil:
		return enrol.Enrolment{}, notPending(fingerprint)
	case e.Status == enrol.Rejected:
		return *e, nil
	case e.Status == enrol.Approved:
		return *e, &enrol.Refusal{Reason: enrol.Decided, What: fmt.Sprintf("the device %s is approved already, as site %s", fingerprint, e.Site), Advice: "holdfast site revoke shuts it out"}
	}
	now := h.cfg.Now().UTC().Truncate(time.Millisecond)
	e.Status, e.By, e.Decided, e.Why = enrol.Rejected, by, &now, decision.Why
	return *e, h.keepEnrolment(ctx, *e, sequence)
}

func notPending(fingerprint string) error {
	return &enrol.Refusal{Reason: enrol.NotThere, What: fmt.Sprintf("no device with the words %.80q asked to join", fingerprint), Advice: "holdfast site pending shows who asked"}
}

// challengeLife is how long a challenge is good.
const challengeLife = 2 * time.Minute

// Challenge is a nonce that this hub recognises for a while without remembering it.
func (h *Hub) Challenge() enrol.Challenge {
	at := strconv.FormatInt(h.cfg.Now().UnixMilli(), 10)
	return enrol.Challenge{Nonce: at + "." + h.seal(at)}
}

func (h *Hub) seal(text string) string {
	mac := hmac.New(sha256.New, h.signing().private.Seed())
	mac.Write([]byte("holdfast challenge\n" + text))
	return hex.EncodeToString(mac.Sum(nil))
}

func (h *Hub) checkChallenge(nonce string) error {
	stale := &enrol.Refusal{Reason: enrol.ProofStale, What: "the proof is not about a challenge of the last two minutes"}
	at, seal, _ := strings.Cut(nonce, ".")
	if !hmac.Equal([]byte(seal), []byte(h.seal(at))) {
		return stale
	}
	ms, err := strconv.ParseInt(at, 10, 64)
	if age := h.cfg.Now().Sub(time.UnixMilli(ms)); err != nil || age < -time.Second || age > challengeLife {
		return stale
	}
	return nil
}

// Renew gives the site that proves to hold its key a new credential for exactly that site and key.
func (h *Hub) Renew(ctx context.Context, sealed []byte) ([]byte, error) {
	renewal, err := enrol.OpenRenewal(sealed)
	if err != nil {
		return nil, err
	}
	if err := h.checkChallenge(renewal.Nonce); err != nil {
		return nil, err
	}
	var there *enrol.Occupant
	record, _, err := h.siteRecord(ctx, renewal.Site)
	var refusal *api.Error
	switch {
	case err == nil:
		there = record.occupant()
	case !errors.As(err, &refusal):
		return nil, err
	}
	if err := enrol.CheckRenewal(renewal, there); err != nil {
		return nil, err
	}
	token, err := h.credential(record)
	if err != nil {
		return nil, err
	}
	return fleetsync.Seal(enrol.TypeRenewed, enrol.Renewed{Nonce: renewal.Nonce, Site: record.Site, Key: record.Key, JWT: token}, h.signing().private)
}
