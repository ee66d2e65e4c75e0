package enrol

import (
	"crypto/ed25519"
	"fmt"
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Enrolment is one device's wish as the hub keeps it, by its key.
type Enrolment struct {
	Key         ed25519.PublicKey `json:"key"`
	Fingerprint string            `json:"fingerprint"`
	Token       string            `json:"token"` // id
	Site        bundle.SiteID     `json:"site"`
	Labels      map[string]string `json:"labels,omitempty"`
	Replaces    bool              `json:"replaces,omitempty"`
	Facts       Facts             `json:"facts"`
	From        string            `json:"from,omitempty"` // network address
	First       time.Time         `json:"first"`
	Status      Status            `json:"status"`
	By          string            `json:"by,omitempty"` // who decided
	Decided     *time.Time        `json:"decided,omitempty"`
	Why         string            `json:"why,omitempty"`
}

// Known is what the hub has recorded that a decision depends on.
type Known struct {
	Token     *Token     // by the id in the secret; nil: there is none
	Enrolment *Enrolment // by the request's key; nil: there is none
	Holder    *Occupant  // the site that has the request's key; nil: none has
	// At gives the site of a name; nil where there is none.
	At func(bundle.SiteID) *Occupant
}

// Decision is what to write, in this order, and then to answer. A crash between two writes is completed by the same request again.
type Decision struct {
	Token     *Token     // with the new claim; nil: as it is
	Enrolment *Enrolment // new; nil: as it is
	Approve   bool       // make the site and mark the enrolment approved
	Answer    Enrolment  // as it stands before approval
}

// Decide answers a request.
func Decide(now time.Time, request Request, from string, known Known) (Decision, error) {
	token := known.Token
	if token == nil || !token.holds(request.Token) {
		return Decision{}, unknownToken()
	}
	claim, claimed := token.claimOf(request.Key)
	if known.Enrolment != nil && claimed {
		return again(*known.Enrolment, token), nil
	}
	var decision Decision
	if !claimed {
		var err error
		if claim, err = newClaim(now, request, token, known); err != nil {
			return Decision{}, err
		}
		next := *token
		next.Claims = append(slices.Clone(token.Claims), claim)
		decision.Token = &next
	}
	decision.Enrolment = &Enrolment{
		Key: request.Key, Fingerprint: Fingerprint(request.Key), Token: token.ID, Site: claim.Site, Labels: token.Labels,
		Replaces: token.Replaces, Facts: request.Facts, From: from, First: claim.At, Status: Pending,
	}
	decision.Answer, decision.Approve = *decision.Enrolment, token.PreApproved
	return decision, nil
}

// again answers a key that asked before: what was recorded counts, whether or not the answer arrived.
func again(was Enrolment, token *Token) Decision {
	return Decision{Answer: was, Approve: was.Status == Pending && token.PreApproved}
}

func newClaim(now time.Time, request Request, token *Token, known Known) (Claim, error) {
	switch {
	case token.Revoked != nil:
		return Claim{}, refuse(TokenRevoked, fmt.Sprintf("token %s is revoked", token.ID), "make another: holdfast token create")
	case !now.Before(token.Expires):
		return Claim{}, refuse(TokenExpired, fmt.Sprintf("token %s expired at %s", token.ID, token.Expires.UTC().Format(time.RFC3339)), "make another: holdfast token create")
	case len(token.Claims) >= token.Uses:
		return Claim{}, refuse(TokenSpent, fmt.Sprintf("token %s was for %d, and all are taken", token.ID, token.Uses), "make another: holdfast token create")
	}
	site, err := token.Rule.Name(request.Facts)
	if err != nil {
		return Claim{}, err
	}
	if err := CheckSite(site, request.Key, token.Replaces, known.At(site), known.Holder); err != nil {
		return Claim{}, err
	}
	return Claim{Key: request.Key, Site: site, At: now.UTC().Truncate(time.Millisecond)}, nil
}

// CheckSite says whether the key may become the site, given who is that site and which site has the key.
func CheckSite(site bundle.SiteID, key ed25519.PublicKey, replaces bool, there, holder *Occupant) error {
	if holder != nil && holder.Site != site {
		return refuse(KeyInUse, fmt.Sprintf("the key %s is site %s's", Fingerprint(key), holder.Site), "a device makes its own key; clear the agent's data folder before an image is made of a disk")
	}
	if holder != nil && !key.Equal(holder.Key) {
		return refuse(SiteRevoked, fmt.Sprintf("the key %s was site %s's until other hardware took its place", Fingerprint(key), site), "clear the agent's data folder, so that it makes a new key")
	}
	switch {
	case there == nil && replaces:
		return refuse(NotThere, fmt.Sprintf("site %s is not known, so nothing can take its place", site), "")
	case there == nil:
		return nil
	case there.Gone:
		return refuse(NotReplaceable, fmt.Sprintf("site %s left the fleet", site), "choose another name")
	case key.Equal(there.Key) && there.Revoked:
		return refuse(SiteRevoked, fmt.Sprintf("site %s is revoked, and with it this key", site), "holdfast site replace lets it come back with a new key")
	case key.Equal(there.Key) || replaces:
		return nil
	}
	return refuse(NameTaken, fmt.Sprintf("there is a site %s, with another key", site), "for new hardware of that site: holdfast site replace "+string(site))
}
