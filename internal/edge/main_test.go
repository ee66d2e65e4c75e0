package edge

import (
	"flag"
	"os"
	"testing"

	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// TestMain lets many lives run at the same time: they mostly wait for one another's pauses, not for a processor.
func TestMain(m *testing.M) {
	if words := os.Getenv(agentIs); words != "" {
		os.Exit(beAgent(words))
	}
	flag.Parse()
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	cluster.Main(m)
}
