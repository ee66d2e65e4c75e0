package edge

import (
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// A version that would delete most of what is there is halted, said once and not repeated by restarts; an order that accepts the loss carries it out.
func TestF22_SuspiciousVersionWaitsForAnOrder(t *testing.T) {
	d := newDesk(t)
	s := newSite(d)
	var objects []bundle.Object
	for i := range 6 {
		objects = append(objects, configMap(fmt.Sprint("m", i), "1"))
	}
	d.assign(d.publish("1.0.0", 1, objects))
	s.start()
	d.current("1.0.0")
	emptier := d.publish("1.1.0", 2, objects[:1])
	d.assign(emptier)
	eventually(t, "the version is halted", d.phase(fleetsync.PhaseHalted, "1.1.0"))
	s.restart()
	eventually(t, "it is still halted", func() bool {
		return len(d.told(fleetsync.EventStarted)) == 2 && d.phase(fleetsync.PhaseHalted, "1.1.0")() && s.value("m5") == "1"
	})
	if told := d.told(fleetsync.EventHalted); len(told) != 1 || !strings.Contains(told[0].Message, "5 of 6 objects would be deleted") {
		t.Errorf("told: %+v", told)
	}
	emptier.assigned.AcceptLoss = true
	d.assign(emptier)
	d.current("1.1.0")
	if !s.has("m0") {
		t.Errorf("the cluster holds %v", s.cluster.Objects())
	}
}
