package e2e

import (
	"crypto/ed25519"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// evilHub is a fleet.Evil in a test, which must do what it wants.
type evilHub struct {
	*fleet.Evil
	at *site
}

func newEvilHub(at *site) *evilHub {
	t := at.stage.t
	t.Helper()
	evil, err := at.stage.Evil(at.stage.context(), at.Name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(evil.Close)
	return &evilHub{evil, at}
}

func (e *evilHub) publish(f *bundle.File, name bundle.Name, version bundle.Version, content bundle.Digest) fleetsync.AssignedBundle {
	e.at.stage.t.Helper()
	order, err := e.Publish(e.at.stage.context(), f, name, version, content)
	e.must(err)
	return order
}

func (e *evilHub) order(bundles ...fleetsync.AssignedBundle) {
	e.at.stage.t.Helper()
	e.must(e.Order(e.at.stage.context(), bundles...))
}

func (e *evilHub) say(a fleetsync.Assignment, key ed25519.PrivateKey) {
	e.at.stage.t.Helper()
	e.must(e.Say(e.at.stage.context(), a, key))
}

func (e *evilHub) must(err error) {
	e.at.stage.t.Helper()
	if err != nil {
		e.at.stage.t.Fatal(err)
	}
}
