package apply

import (
	"errors"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Prepare renders a verified bundle for a site, holds every object of it against its scope and makes it ready to be applied: labelled, hashed,
// staged. It is the only way from content to a cluster (P1). Objects outside the scope are a *Failure at AtScope that names all of them (T15).
func Prepare(v verify.Verified, in render.Inputs, scope Scope) (Desired, error) {
	if !v.Valid() {
		return Desired{}, errors.New("apply: a bundle that is not verified is refused")
	}
	manifest := v.Manifest()
	rendered, err := render.Render(manifest, v.Objects(), in)
	if err != nil {
		return Desired{}, fmt.Errorf("apply: %w", err)
	}
	d, err := desire(manifest.Ref(), v.Digest(), rendered.Digest, manifest.Policy, rendered.Objects)
	if err != nil {
		return Desired{}, err
	}
	if outside := scope.check(d.Objects); len(outside) > 0 {
		return Desired{}, &Failure{At: AtScope, Refusals: outside}
	}
	d.Scope = scope
	return d, nil
}
