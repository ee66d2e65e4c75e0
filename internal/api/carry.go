package api

import (
	"context"
	"net/http"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// MaxReport bounds a site's report by hand, in bytes.
const MaxReport = 16 << 20

// SealedAssignment is a site's assignment as the site would read it from the bus.
type SealedAssignment struct {
	Site     bundle.SiteID `json:"site"`
	Sequence uint64        `json:"sequence"`
	Bundles  []bundle.Ref  `json:"bundles"`
	Sealed   []byte        `json:"sealed"`
	// Trust are the files of the root of trust, from its first version on: a site that was away while it changed follows them.
	Trust []TrustFile `json:"trust,omitempty"`
}

// TrustFile is a file of the root of trust by its name on the bus.
type TrustFile struct {
	Name string `json:"name"`
	Data []byte `json:"data"`
}

// ReportTaken is what the hub took of a report by hand.
type ReportTaken struct {
	Site   bundle.SiteID `json:"site"`
	State  uint64        `json:"state"`  // sequence of the snapshot; 0: the hub has a newer one
	Events int           `json:"events"` // in the file; those that the hub has are not counted twice
}

// Assignment gives a site's signed assignment.
func (c *Client) Assignment(ctx context.Context, site bundle.SiteID) (SealedAssignment, error) {
	return ask[SealedAssignment](ctx, c, http.MethodGet, nil, nil, "sites", string(site), "assignment")
}

// Report gives the hub what a site reported by hand.
func (c *Client) Report(ctx context.Context, file []byte) (ReportTaken, error) {
	return ask[ReportTaken](ctx, c, http.MethodPost, nil, file, "reports")
}
