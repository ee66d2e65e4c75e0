package device

import (
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-fleet/holdfast/internal/enrol"
)

// serialFiles are where firmware tells a machine's serial number, and idFiles where the system keeps the machine's id.
var (
	serialFiles = []string{"sys/class/dmi/id/product_serial", "sys/firmware/devicetree/base/serial-number", "proc/device-tree/serial-number"}
	idFiles     = []string{"etc/machine-id", "var/lib/dbus/machine-id"}
)

// readFacts reads what the machine whose root file system is at root says about itself. What cannot be read is left out: the token's rule says
// which fact is needed, and the hub's refusal which one is missing.
func readFacts(root string) enrol.Facts {
	facts := enrol.Facts{Serial: firstOf(root, serialFiles), MachineID: firstOf(root, idFiles), Hostname: firstOf(root, []string{"etc/hostname"})}
	if facts.Hostname == "" {
		if name, err := os.Hostname(); err == nil {
			facts.Hostname = name
		}
	}
	return facts
}

// maxFact is the most of a file that counts, in bytes; the hub refuses longer facts.
const maxFact = 200

func firstOf(root string, files []string) string {
	for _, name := range files {
		f, err := os.Open(filepath.Join(root, name))
		if err != nil {
			continue
		}
		raw, err := io.ReadAll(io.LimitReader(f, maxFact))
		f.Close()
		// Device trees end their strings with a zero byte.
		if text := strings.TrimSpace(strings.TrimRight(string(raw), "\x00")); err == nil && text != "" {
			return strings.ToValidUTF8(text, "?")
		}
	}
	return ""
}
