package api

import (
	"context"
	"net/http"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// TokenRequest asks for a join token. For a replacement the rule is the hub's to choose, and labels stay the site's.
type TokenRequest struct {
	Rule        enrol.Rule        `json:"siteName,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Uses        int               `json:"uses,omitempty"`
	Seconds     int64             `json:"expiresInSeconds"`
	PreApproved bool              `json:"preApproved,omitempty"`
}

// TokenGrant is a new token with its enrolment file, which is given out this once.
type TokenGrant struct {
	Token Token      `json:"token"`
	File  enrol.File `json:"file"`
}

// Token is a join token without its secret.
type Token struct {
	ID          string            `json:"id"`
	Rule        enrol.Rule        `json:"siteName"`
	Labels      map[string]string `json:"labels,omitempty"`
	Uses        int               `json:"uses"`
	Used        []bundle.SiteID   `json:"used"` // a site for each use
	PreApproved bool              `json:"preApproved,omitempty"`
	Replaces    bool              `json:"replaces,omitempty"`
	Created     time.Time         `json:"created"`
	By          string            `json:"by"`
	Expires     time.Time         `json:"expires"`
	Revoked     *time.Time        `json:"revoked,omitempty"`
}

// Decision approves or rejects a device that asked to join.
type Decision struct {
	Approve bool   `json:"approve"`
	Why     string `json:"why,omitempty"`
}

// Because is a decision about a site with its reason.
type Because struct {
	Why string `json:"why,omitempty"`
}

// Decommission lets a site leave the fleet.
type Decommission struct {
	RemoveWorkloads bool   `json:"removeWorkloads,omitempty"`
	Why             string `json:"why,omitempty"`
}

// LabelChange sets and removes labels of a site.
type LabelChange struct {
	Set    map[string]string `json:"set,omitempty"`
	Remove []string          `json:"remove,omitempty"`
}

// AuditRecord is one entry of the audit log. Prev is the SHA-256, in hex, of the exact bytes of the record before; empty for the first.
type AuditRecord struct {
	Number  uint64    `json:"n"` // from 1, without holes
	Time    time.Time `json:"time"`
	Who     string    `json:"who"`
	What    string    `json:"what"`
	Target  string    `json:"target,omitempty"`
	Outcome string    `json:"outcome"` // done, or the reason of a refusal
	Detail  string    `json:"detail,omitempty"`
	Prev    string    `json:"prev,omitempty"`
}

// AuditVerdict says whether the audit log is whole. Head is the SHA-256 of its last record: who keeps it elsewhere notices a cut end.
type AuditVerdict struct {
	Records uint64 `json:"records"`
	Head    string `json:"head"`
	Purged  uint64 `json:"purged,omitempty"` // of these, the oldest so many are there no more: only their hash is
	Broken  string `json:"broken,omitempty"` // the first fault; empty: none
}

// CreateToken makes a join token.
func (c *Client) CreateToken(ctx context.Context, request TokenRequest) (TokenGrant, error) {
	return askJSON[TokenGrant](ctx, c, request, "tokens")
}

// Tokens lists the join tokens.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	return ask[[]Token](ctx, c, http.MethodGet, nil, nil, "tokens")
}

// RevokeToken ends a token: no further device can use it. Sites it made stay.
func (c *Client) RevokeToken(ctx context.Context, id string) (Token, error) {
	return askJSON[Token](ctx, c, Because{}, "tokens", id, "revocation")
}

// Enrolments lists the devices that asked to join.
func (c *Client) Enrolments(ctx context.Context) ([]enrol.Enrolment, error) {
	return ask[[]enrol.Enrolment](ctx, c, http.MethodGet, nil, nil, "enrolments")
}

// DecideEnrolment approves or rejects the device with the fingerprint.
func (c *Client) DecideEnrolment(ctx context.Context, fingerprint string, decision Decision) (enrol.Enrolment, error) {
	return askJSON[enrol.Enrolment](ctx, c, decision, "enrolments", fingerprint, "decision")
}

// RevokeSite shuts a site out.
func (c *Client) RevokeSite(ctx context.Context, site bundle.SiteID, why string) (Site, error) {
	return askJSON[Site](ctx, c, Because{why}, "sites", string(site), "revocation")
}

// ReleaseSite ends a hold.
func (c *Client) ReleaseSite(ctx context.Context, site bundle.SiteID, why string) (Site, error) {
	return askJSON[Site](ctx, c, Because{why}, "sites", string(site), "release")
}

// ReplaceSite makes a token for other hardware to take a site's place.
func (c *Client) ReplaceSite(ctx context.Context, site bundle.SiteID, request TokenRequest) (TokenGrant, error) {
	return askJSON[TokenGrant](ctx, c, request, "sites", string(site), "replacement")
}

// DecommissionSite lets a site leave the fleet.
func (c *Client) DecommissionSite(ctx context.Context, site bundle.SiteID, request Decommission) (Site, error) {
	return askJSON[Site](ctx, c, request, "sites", string(site), "decommission")
}

// LabelSite changes a site's labels.
func (c *Client) LabelSite(ctx context.Context, site bundle.SiteID, change LabelChange) (Site, error) {
	return askJSON[Site](ctx, c, change, "sites", string(site), "labels")
}

// CordonSite keeps rollouts from giving a site anything new.
func (c *Client) CordonSite(ctx context.Context, site bundle.SiteID, why string) (Site, error) {
	return askJSON[Site](ctx, c, Because{why}, "sites", string(site), "cordon")
}

// UncordonSite ends that.
func (c *Client) UncordonSite(ctx context.Context, site bundle.SiteID) (Site, error) {
	return askJSON[Site](ctx, c, Because{}, "sites", string(site), "uncordon")
}

// Audit lists the newest records of the audit log, oldest first. limit 0 leaves the number to the hub.
func (c *Client) Audit(ctx context.Context, limit int) ([]AuditRecord, error) {
	if limit == 0 {
		return ask[[]AuditRecord](ctx, c, http.MethodGet, nil, nil, "audit")
	}
	var records []AuditRecord
	for page, err := range c.AuditPages(ctx, limit) {
		if err != nil {
			return nil, err
		}
		records = append(page, records...)
	}
	return records, nil
}

// VerifyAudit walks the whole audit log.
func (c *Client) VerifyAudit(ctx context.Context) (AuditVerdict, error) {
	return ask[AuditVerdict](ctx, c, http.MethodGet, nil, nil, "audit", "verification")
}
