package fleet

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// Memory reads what Linux says of a process, in MiB: the lines of smaps_rollup and status by their names ("Rss", "Anonymous", "VmHWM", …).
func Memory(pid int) (map[string]float64, error) {
	used := map[string]float64{}
	for _, file := range []string{"smaps_rollup", "status"} {
		raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(string(raw)) {
			words := strings.Fields(line)
			if len(words) == 3 && words[2] == "kB" {
				if kib, err := strconv.ParseFloat(words[1], 64); err == nil {
					used[strings.TrimSuffix(words[0], ":")] = kib / 1024
				}
			}
		}
	}
	return used, nil
}
