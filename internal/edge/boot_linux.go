package edge

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// bootClock says which start of the machine this is and how long it has been up, suspended times included.
func bootClock() fleetsync.Boot {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fleetsync.Boot{}
	}
	var up unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &up); err != nil {
		return fleetsync.Boot{}
	}
	return fleetsync.Boot{ID: strings.TrimSpace(string(id)), Up: time.Duration(up.Nano())}
}
