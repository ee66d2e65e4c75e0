package edge

import (
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func TestAgentKeepsASite(t *testing.T) {
	d := newDesk(t)
	s := newSite(d).start()
	d.assign(d.publish("1.0.0", 1, []bundle.Object{configMap("a", "1"), configMap("b", "1")}))
	d.current("1.0.0")
	s.spoil("a")
	eventually(t, "the edit is undone", func() bool { return s.value("a") == "1" })
	d.assign(d.publish("1.1.0", 2, []bundle.Object{configMap("a", "2")}))
	d.current("1.1.0")
	if !s.has("a") || s.value("a") != "2" {
		t.Errorf("%v", s.cluster.Objects())
	}
	d.assign()
	eventually(t, "all is removed", func() bool { return s.has() && len(d.seen().Bundles) == 0 })
}
