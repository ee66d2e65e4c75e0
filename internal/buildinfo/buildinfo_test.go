package buildinfo

import "testing"

func TestVersionIsWhatTheLinkerSet(t *testing.T) {
	if Version() == "" {
		t.Error("no version where the linker set none")
	}
	version = "1.2.3"
	defer func() { version = "" }()
	if got := Version(); got != "1.2.3" {
		t.Errorf("version %q, want 1.2.3", got)
	}
}
