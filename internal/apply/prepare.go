package apply

import (
	"errors"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Prepare renders a verified bundle for a site, holds every object of it against its scope and makes it ready to be applied: labelled, hashed,
// staged. It is the only way from content to a cluster (P1). Objects outside the scope are a *Failure at AtScope that names all of them (T15).
// A bundle with sealed secrets is refused: PrepareOpening has a key for them.
func Prepare(v verify.Verified, in render.Inputs, scope Scope) (Desired, error) {
	return PrepareOpening(v, in, scope, nil)
}

// PrepareOpening is Prepare for a site that opens sealed secrets (bundle.SealedKind): here, to see that it can be done, and again whenever their bodies are asked for.
// What is hashed, kept and told of them is their sealed form (T16). What cannot be opened is an *Unopened.
func PrepareOpening(v verify.Verified, in render.Inputs, scope Scope, open Opener) (Desired, error) {
	if !v.Valid() {
		return Desired{}, errors.New("apply: a bundle that is not verified is refused")
	}
	manifest := v.Manifest()
	rendered, err := render.Render(manifest, v.Objects(), in)
	if err != nil {
		return Desired{}, fmt.Errorf("apply: %w", err)
	}
	d, err := desire(manifest.Ref(), v.Digest(), rendered.Digest, manifest.Policy, rendered.Objects, open)
	if err != nil {
		return Desired{}, err
	}
	if outside := scope.check(d.Objects); len(outside) > 0 {
		return Desired{}, &Failure{At: AtScope, Refusals: outside}
	}
	for i := range d.Objects {
		if o := &d.Objects[i]; o.open != nil {
			if _, err := o.Body(); err != nil {
				return Desired{}, &Unopened{err}
			}
		}
	}
	d.Scope = scope
	return d, nil
}

// Opener makes a Secret, in JSON, of a sealed one.
type Opener func(sealed []byte) (secret []byte, err error)

// Unopened is a sealed secret that this site cannot open.
type Unopened struct{ error }

func (u *Unopened) Unwrap() error { return u.error }
