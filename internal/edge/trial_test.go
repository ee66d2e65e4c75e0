package edge

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/internal/watchdog"
)

// be ends the agent that runs, if one does, and starts another over the same folder.
func (s *shop) be(old bool) {
	s.t.Helper()
	s.leave()
	s.of.Old = old
	s.begin()
}

// leave ends the agent and gives how it ended.
func (s *shop) leave() error {
	s.mu.Lock()
	process := s.process
	s.process = nil
	s.mu.Unlock()
	if process == nil {
		return nil
	}
	_ = process.Process.Signal(syscall.SIGTERM)
	return process.Wait()
}

// putRight wants an agent that keeps the site right.
func (s *shop) putRight(value string) {
	s.t.Helper()
	s.spoil("a")
	eventually(s.t, "the edit is undone", func() bool { return s.value("a") == value })
}

// TestR21_F26_AnAgentFromBeforeEncryptionMayComeBack upgrades an agent that knows of no encryption, in processes of their own. While the watchdog may take
// the new one back its store stays as the old one opens it, and the old one goes on with it; when the trial is over it is encrypted, without a
// restart, and nothing is lost on the way.
func TestR21_F26_AnAgentFromBeforeEncryptionMayComeBack(t *testing.T) {
	s := newGrounds(t, "").open(t, "upgraded")
	s.of.Watched, s.of.Trial = filepath.Join(t.TempDir(), "memory.json"), 300*time.Millisecond
	t.Cleanup(func() {
		_ = s.leave()
		if t.Failed() {
			raw, _ := os.ReadFile(s.at.EdgeLog())
			t.Logf("the agent:\n%s", raw[max(0, len(raw)-6000):])
		}
	})
	knows := func(m watchdog.Memory) {
		raw, err := watchdog.Encode(m)
		if err == nil {
			err = os.WriteFile(s.of.Watched+".new", raw, 0o600)
		}
		if err == nil {
			err = os.Rename(s.of.Watched+".new", s.of.Watched)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	encrypted := func() bool { return store.Encrypted(filepath.Join(s.of.Dir, "store")) }
	good := watchdog.Memory{Good: json.RawMessage(`{"agent":"old"}`)}
	trial := watchdog.Memory{Good: good.Good, Trial: &watchdog.Trial{Hash: watchdog.Template(`{"agent":"new"}`).Hash(), Since: time.Now().UTC()}}
	knows(good)
	s.be(true)
	s.assign("1.0.0")
	eventually(t, "1.0.0 is applied", func() bool { return s.value("a") == "1" && s.value("b") == "1" })

	knows(trial)
	s.be(false)
	s.putRight("1")
	s.assign("1.1.0")
	eventually(t, "1.1.0 is applied", func() bool { return s.value("a") == "2" && s.value("c") == "1" && s.value("b") == "" })
	if encrypted() {
		t.Fatal("the store is encrypted while the agent is on trial")
	}
	knows(good)
	s.be(true) // the watchdog put it back
	s.putRight("2")

	knows(trial)
	s.be(false)
	s.putRight("2")
	knows(watchdog.Memory{Good: json.RawMessage(`{"agent":"new"}`)})
	eventually(t, "the store is encrypted after the trial", encrypted)
	s.putRight("2")
	told := map[string]int{}
	for _, ev := range s.story("1.1.0") { // one epoch, in order, without a gap
		told[strings.TrimSpace(string(ev.Kind)+" "+string(ev.Version))]++
	}
	if told["Applied 1.0.0"] != 1 || told["Applied 1.1.0"] != 1 || told["StoreDamaged"] != 0 {
		t.Errorf("%v", told)
	}
	s.be(false)
	s.putRight("2")
	_ = s.leave()
	s.of.Old = true
	s.begin()
	if err := s.process.Wait(); err == nil {
		t.Error("an agent from before opened the encrypted store: this test shows nothing")
	}
	s.process = nil
}
