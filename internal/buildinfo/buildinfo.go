// Package buildinfo knows the version of the running program.
package buildinfo

import "runtime/debug"

// version is set by the linker: -ldflags "-X github.com/holdfast-fleet/holdfast/internal/buildinfo.version=1.2.3".
var version string

// Version is what the linker set, else the module's version, else "dev" and the commit it was built from.
func Version() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "dev"
	}
	if info.Main.Version != "" && info.Main.Version != "(devel)" {
		return info.Main.Version
	}
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" && len(setting.Value) >= 12 {
			return "dev-" + setting.Value[:12]
		}
	}
	return "dev"
}
