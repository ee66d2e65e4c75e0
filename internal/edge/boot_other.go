//go:build !linux

package edge

import fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"

// bootClock does not know this machine's boots.
func bootClock() fleetsync.Boot { return fleetsync.Boot{} }
