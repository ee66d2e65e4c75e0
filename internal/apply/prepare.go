package apply

import (
	"errors"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/bundle/render"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// Prepare renders a verified bundle for a site and makes it ready to be applied: labelled, hashed, staged. It is the only way from content to
// a cluster (P1).
func Prepare(v verify.Verified, in render.Inputs) (Desired, error) {
	if !v.Valid() {
		return Desired{}, errors.New("apply: a bundle that is not verified is refused")
	}
	manifest := v.Manifest()
	rendered, err := render.Render(manifest, v.Objects(), in)
	if err != nil {
		return Desired{}, fmt.Errorf("apply: %w", err)
	}
	return desire(manifest.Ref(), v.Digest(), rendered.Digest, manifest.Policy, rendered.Objects)
}
