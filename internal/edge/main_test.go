package edge

import (
	"flag"
	"testing"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// TestMain lets many lives run at the same time: they mostly wait for one another's pauses, not for a processor.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	cluster.Main(m)
}
