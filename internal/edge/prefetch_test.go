package edge

import (
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// A version whose images cannot be pulled is not begun, or is without them where its policy says so; one whose images are there is.
func TestPrefetchGoesBeforeTheApply(t *testing.T) {
	d := newDesk(t)
	s := newSite(d)
	for _, name := range []string{"shop", apply.PrefetchNamespace} {
		if err := s.cluster.Create(object(`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"`+name+`"}}`), "install"); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	web := func(image string) []bundle.Object {
		return []bundle.Object{object(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":"shop"},"spec":{"template":{"spec":{"containers":[{"image":"` + image + `","name":"c"}]}}}}`)}
	}
	policy := func(then bundle.PrefetchFailure) func(*bundle.Manifest) {
		return func(m *bundle.Manifest) {
			m.Policy.Prefetch = &bundle.Prefetch{Images: true, TimeoutSeconds: 1, OnFailure: then}
		}
	}
	d.assign(d.publish("1.0.0", 1, web("web:1"), policy(bundle.PrefetchHold)))
	d.current("1.0.0")
	if len(d.told(fleetsync.EventPrefetched)) != 1 {
		t.Error("nothing was told of the images")
	}
	d.assign(d.publish("1.1.0", 2, web("missing:1"), policy(bundle.PrefetchHold)))
	eventually(t, "the failure is told", func() bool { return len(d.told(fleetsync.EventPrefetchFailed)) == 1 })
	if status := d.status("shop"); status.Current != "1.0.0" || !strings.Contains(d.told(fleetsync.EventPrefetchFailed)[0].Message, "missing:1 on node node") {
		t.Errorf("%+v", status)
	}
	d.assign(d.publish("1.2.0", 3, web("missing:2"), policy(bundle.PrefetchProceed)))
	d.current("1.2.0")
	// One that would go on for long makes way for the next version.
	patient := policy(bundle.PrefetchHold)
	d.assign(d.publish("1.3.0", 4, web("missing:3"), patient, func(m *bundle.Manifest) { m.Policy.Prefetch.TimeoutSeconds = 3600 }))
	eventually(t, "the progress is told", func() bool { return strings.Contains(d.status("shop").Message, "missing:3") })
	d.assign(d.publish("1.4.0", 5, web("web:4"), patient))
	d.current("1.4.0")
	for _, id := range s.cluster.Objects() {
		if id.Kind == "DaemonSet" {
			t.Errorf("left: %s", id)
		}
	}
}
