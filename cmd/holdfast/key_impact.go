package main

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// keyImpact is what the revocation of a release key or identity takes away, as far as the trust document and the catalog tell.
func keyImpact(trust *verify.Trust, id verify.KeyID, catalog []api.Bundle) api.Impact {
	impact := api.Impact{Act: "key revoke", Target: string(id), DryRun: true, Losses: []api.Loss{}}
	names, revoked := rightsOf(trust, id)
	if impact.Changed = !revoked; revoked {
		return impact
	}
	impact.Lose("key", string(id), "", "its right to release %s", strings.Join(names, ", "))
	for _, pattern := range names {
		if others := otherSigners(trust, id, pattern); len(others) == 0 {
			impact.Lose("name", pattern, "", "its only key: nothing new can be released under it until another is added")
		}
	}
	for _, b := range catalog {
		if b.Key == string(id) {
			impact.Sites = max(impact.Sites, b.Sites-b.Current) // at least: the catalog does not say which sites
			impact.Lose("bundle", string(b.Name)+"@"+string(b.Version), "", "sites that have not accepted it: it goes nowhere new; %d of %d sites that are assigned it run it and go on", b.Current, b.Sites)
		}
	}
	return impact
}

func rightsOf(trust *verify.Trust, id verify.KeyID) (names []string, revoked bool) {
	for _, key := range trust.Keys {
		if key.ID == id {
			return key.Names, key.Revoked
		}
	}
	for _, i := range trust.Identities {
		if identityID(i) == id {
			return i.Names, i.Revoked
		}
	}
	return nil, false
}

// otherSigners are the keys and identities with the very pattern, or with all names, but the one.
func otherSigners(trust *verify.Trust, but verify.KeyID, pattern string) (ids []verify.KeyID) {
	may := func(id verify.KeyID, names []string, revoked bool) {
		if id != but && !revoked && (slices.Contains(names, pattern) || slices.Contains(names, "*")) {
			ids = append(ids, id)
		}
	}
	for _, key := range trust.Keys {
		may(key.ID, key.Names, key.Revoked)
	}
	for _, i := range trust.Identities {
		may(identityID(i), i.Names, i.Revoked)
	}
	return ids
}

// holderImpact is what a root key's leaving takes away.
func holderImpact(id verify.KeyID, holders, threshold int) api.Impact {
	impact := api.Impact{Act: "key revoke --root", Target: string(id), DryRun: true, Changed: true, Losses: []api.Loss{}}
	impact.Lose("root key", string(id), "", "its say in the root of trust: %d of the %d other holders sign from then on", threshold, holders-1)
	return impact
}

// catalog is the hub's, or nothing where no hub is asked; that is said, because the blast radius is then not the whole one.
func (d *desk) catalog(ctx context.Context) []api.Bundle {
	hub, err := d.hub()
	var bundles []api.Bundle
	if err == nil {
		bundles, err = hub.Bundles(ctx)
	}
	if err != nil {
		d.sayf("the hub was not asked which bundles it signed: %v", err)
	}
	return bundles
}

// errForeseen ends a change that was only to be shown.
var errForeseen = errors.New("only shown")

// draftImpact shows what a change of the root of trust takes away, and on a terminal asks: nothing of it holds before the holders have signed.
func (d *desk) draftImpact(asked *foresight, impact api.Impact) error {
	if asked.yes {
		return nil
	}
	if err := d.drawImpact(impact); err != nil {
		return err
	}
	return d.agreeTo(undone, impact.Target)
}
