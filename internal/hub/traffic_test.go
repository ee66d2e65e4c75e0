package hub

import (
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/bus/link"
)

// What a site's line carries is counted where it is carried, TLS with it.
func TestALinkCountsWhatItCarries(t *testing.T) {
	d := newDistrict(t, 1, false)
	line := d.shops[shopID(1)].link.(*link.Link)
	before := line.Traffic()
	if before.Connections != 1 || before.In < 1000 || before.Out < 1000 { // a handshake alone is more
		t.Fatalf("after a connection: %+v", before)
	}
	eventually(t, "a heartbeat is counted", func() bool { return line.Traffic().Out >= before.Out+200 })
	if now := line.Traffic(); now.Connections != 1 {
		t.Errorf("%d connections", now.Connections)
	}
}
