package enrol

import (
	"crypto/ed25519"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Challenge is the hub's nonce for a renewal; it is good for a short while.
type Challenge struct {
	Nonce string `json:"nonce"`
}

// maxChallenge bounds a hub's nonce, in bytes.
const maxChallenge = 200

// Renewal asks for a new credential, signed by the site's key.
type Renewal struct {
	Nonce string            `json:"nonce"` // the hub's
	Site  bundle.SiteID     `json:"site"`
	Key   ed25519.PublicKey `json:"key"`
}

// OpenRenewal reads a sealed renewal: it is signed by the key it names. Whether the nonce is one of the hub's is the hub's to say.
func OpenRenewal(sealed []byte) (Renewal, error) {
	var r Renewal
	if err := openOwn(TypeRenewal, sealed, &r, func() ed25519.PublicKey { return r.Key }); err != nil {
		return Renewal{}, err
	}
	if _, err := bundle.ParseSiteID(string(r.Site)); err != nil {
		return Renewal{}, malformed(err)
	}
	if len(r.Nonce) > maxChallenge {
		return Renewal{}, malformed(fmt.Errorf("a nonce of %d bytes", len(r.Nonce)))
	}
	return r, nil
}

// Occupant is what the hub has recorded of a site.
type Occupant struct {
	Site    bundle.SiteID
	Key     ed25519.PublicKey
	Revoked bool // shut out, by hand or because it left the fleet
	Gone    bool // left the fleet: its name is not given again
}

// CheckRenewal says whether the site gets a new credential. occupant is nil for a site that is not known.
func CheckRenewal(r Renewal, occupant *Occupant) error {
	// An unknown site and another's key get the same words: whoever has no site's key learns no names.
	if occupant == nil || occupant.Site != r.Site || !r.Key.Equal(occupant.Key) {
		return refuse(WrongIdentity, fmt.Sprintf("site %s does not have the key %s", r.Site, Fingerprint(r.Key)), "holdfast site replace lets other hardware be a site")
	}
	if occupant.Revoked {
		return refuse(SiteRevoked, fmt.Sprintf("site %s is revoked", r.Site), "holdfast site replace lets it come back with a new key")
	}
	return nil
}

// Renewed is the hub's answer, signed and bound to the renewal.
type Renewed struct {
	Nonce string            `json:"nonce"`
	Site  bundle.SiteID     `json:"site"`
	Key   ed25519.PublicKey `json:"key"`
	JWT   string            `json:"jwt"`
}

// OpenRenewed reads the answer to a renewal. Anything but the very same identity is refused (T22).
func OpenRenewed(sealed []byte, hub []ed25519.PublicKey, to Renewal) (Renewed, error) {
	var r Renewed
	if err := openPinned(TypeRenewed, sealed, hub, &r); err != nil {
		return Renewed{}, err
	}
	if r.Nonce != to.Nonce {
		return Renewed{}, refuse(Forged, "the hub's answer is to another renewal", "")
	}
	if r.Site != to.Site || !to.Key.Equal(r.Key) {
		return Renewed{}, refuse(WrongIdentity, fmt.Sprintf("the hub renewed site %.80q with the key %s, want %s with %s", r.Site, Fingerprint(r.Key), to.Site, Fingerprint(to.Key)), "")
	}
	return r, CheckCredential(r.JWT, to.Site, to.Key)
}
