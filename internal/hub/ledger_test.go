package hub

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func linesOf(from, to int, day func(n int) time.Time) (lines []line) {
	for n := from; n <= to; n++ {
		lines = append(lines, lineOf(stream.Message{Subject: fmt.Sprintf("hf.x.site-%d", n%3), Sequence: uint64(n), Time: day(n), Data: []byte{byte(n)}}))
	}
	return lines
}

func TestF28_TheAccountOfAStreamThatAges(t *testing.T) {
	hourly := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Hour) }
	const age = 10 * 24 * time.Hour
	whole := newTally()
	for _, l := range linesOf(1, 480, hourly) { // twenty days
		whole.add(stream.All, l)
	}
	now := hourly(480)
	kept := linesOf(241, 480, hourly)
	edited := linesOf(241, 480, hourly)
	edited[100].sum[3] ^= 1
	for name, try := range map[string]struct {
		there []line
		want  string
	}{
		"all of it":                   {linesOf(1, 480, hourly), ""},
		"what age leaves":             {kept, ""},
		"newer than the account":      {linesOf(241, 500, hourly), ""},
		"nothing":                     {nil, "it ends at message 0"},
		"the end is gone":             {kept[:200], "it ends at message 440"},
		"one is gone":                 {append(append([]line{}, kept[:99]...), kept[100:]...), "1 of the"},
		"one is another":              {edited, "not what they were"},
		"the beginning is gone early": {linesOf(400, 480, hourly), "younger than events are kept"},
	} {
		got := whole.compare(stream.All, try.there, now, age)
		if try.want == "" && got != "" || !strings.Contains(got, try.want) {
			t.Errorf("%s: %q, want %q", name, got, try.want)
		}
	}
	if got := whole.compare(stream.All, nil, hourly(480).Add(age), age); got != "" {
		t.Errorf("a stream that aged away whole: %q", got)
	}
}

func TestF28_TheAccountOfAStreamThatKeepsTheNewest(t *testing.T) {
	at := func(int) time.Time { return noon }
	account := newTally()
	for _, l := range linesOf(1, 9, at) {
		account.add(stream.Newest, l)
	}
	newest := linesOf(7, 9, at)
	edited := linesOf(7, 9, at)
	edited[0].sum[0] ^= 1
	for name, try := range map[string]struct {
		there []line
		want  string
	}{
		"all":                 {newest, ""},
		"one replaced since":  {append(append([]line{}, newest[1:]...), linesOf(10, 10, at)...), ""},
		"one gone":            {newest[1:], "1 of 3 messages are gone"},
		"one gone, one newer": {append(append([]line{}, newest[2:]...), linesOf(10, 10, at)...), "gone"},
		"one is another":      {edited, "not what they were"},
		"the last one gone":   {newest[:2], "it ends at message 8"},
	} {
		got := account.compare(stream.Newest, try.there, noon, time.Hour)
		if try.want == "" && got != "" || !strings.Contains(got, try.want) {
			t.Errorf("%s: %q, want %q", name, got, try.want)
		}
	}
}

func TestF28_TheLedgerOutlastsATornWrite(t *testing.T) {
	dir := t.TempDir()
	l := openLedger(dir, noon)
	for n := 1; n <= 3; n++ {
		l.count(stream.Events, stream.Message{Subject: "hf.event.shop-1", Sequence: uint64(n), Time: noon})
		if err := l.save(); err != nil {
			t.Fatal(err)
		}
	}
	newest := filepath.Join(dir, ledgerSlots[l.slot])
	raw, err := os.ReadFile(newest)
	if err != nil {
		t.Fatal(err)
	}
	if again := openLedger(dir, noon); again.tallies[stream.Events].Last != 3 {
		t.Fatalf("read back up to %d", again.tallies[stream.Events].Last)
	}
	for _, torn := range [][]byte{nil, raw[:len(raw)/2], append(raw[:len(raw):len(raw)], 'x'), bytes.Replace(raw, []byte(`"last":3`), []byte(`"last":1`), 1)} {
		if err := os.WriteFile(newest, torn, 0o600); err != nil {
			t.Fatal(err)
		}
		if again := openLedger(dir, noon); len(again.found()) != 0 || again.tallies[stream.Events].Last != 2 {
			t.Errorf("with a torn slot of %d bytes: %+v", len(torn), again.tallies[stream.Events])
		}
	}
	if err := os.WriteFile(filepath.Join(dir, ledgerSlots[1-l.slot]), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if again := openLedger(dir, noon); len(again.found()) != 1 {
		t.Errorf("two torn slots are no finding")
	}
	if settled, err := SettleLedger(dir); err != nil || len(settled) != 1 || len(openLedger(dir, noon).found()) != 0 {
		t.Errorf("settled %v, %v", settled, err)
	}
}

func FuzzDecodeLedger(f *testing.F) {
	f.Add([]byte("{}\nx\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if w, err := decodeLedger(raw); err == nil && w.Number > 0 && len(raw) < 64 {
			t.Errorf("%q is a ledger", raw)
		}
	})
}

// furnished is a stopped hub with a fleet in its store, and what it showed.
func furnished(t *testing.T) (cfg Config, shown string, site *fakeSite) {
	t.Helper()
	cfg = configOf(t, t.TempDir())
	cfg.ListenNATS = freePort(t) // the site finds it again
	h := startHub(t, cfg)
	client := clientOf(t, h)
	push(t, client, releaseOf(t, "1.0.0", 1, ours()))
	site = addSite(t, client, "shop-1", nil)
	for n := range 9 {
		addSite(t, client, bundle.SiteID(fmt.Sprintf("idle-%d", n)), nil).link.Close()
	}
	for n := uint64(1); n <= 40; n++ {
		site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", n, n))
	}
	state := snapshot("shop-1", "a", 1)
	state.Outbox = fleetsync.OutboxStatus{Next: 41, Acked: 40}
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	eventually(t, "all is acknowledged", func() bool { return site.acked() == 40 && siteAsShown(t, client, "shop-1").State != nil })
	shown = picture(t, h)
	h.Close()
	return cfg, shown, site
}

// picture is all that must not be lost silently.
func picture(t *testing.T, h *Hub) string {
	t.Helper()
	ctx := context.Background()
	h.mu.Lock()
	defer h.mu.Unlock()
	var b strings.Builder
	for _, id := range h.view.ids() {
		s := h.view.sites[id]
		state, _ := s.ingest.Snapshot()
		ack, _ := s.ingest.Ack()
		fmt.Fprintf(&b, "%s state %v upto %d missing %v\n", id, state != nil, ack.Upto, ack.Missing)
	}
	for ref, entry := range h.view.catalog {
		_, err := h.store.Get(ctx, fleetsync.BundleSubject(entry.Digest))
		fmt.Fprintf(&b, "%s there %v\n", ref, err == nil)
	}
	count := 0
	err := h.store.Each(ctx, stream.Events, "", 1, func(stream.Message) error { count++; return nil })
	fmt.Fprintf(&b, "%d batches %v\n", count, err)
	return b.String()
}

// TestF28_ADamagedStoreIsNeverAQuietHole damages each file of a stopped hub's store in each way: the hub shows all it showed, or is red and says
// which stream, or does not start and says why.
func TestF28_ADamagedStoreIsNeverAQuietHole(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a hub for each file and damage")
	}
	cfg, shown, _ := furnished(t)
	root := filepath.Join(cfg.DataDir, "jetstream")
	var files []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if info, infoErr := d.Info(); err == nil && infoErr == nil && d.Type().IsRegular() && info.Size() > 0 {
			files = append(files, path)
		}
		return err
	})
	if err != nil || len(files) < 20 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	damages := map[string]func(path string, raw []byte) error{
		"flip":   func(path string, raw []byte) error { raw[len(raw)/2] ^= 0x10; return os.WriteFile(path, raw, 0o600) },
		"cut":    func(path string, raw []byte) error { return os.WriteFile(path, raw[:len(raw)/2], 0o600) },
		"delete": func(path string, _ []byte) error { return os.Remove(path) },
	}
	outcomes := map[string]int{}
	for _, file := range files {
		for name, damage := range damages {
			what := name + " " + strings.TrimPrefix(file, root)
			trial := cfg
			trial.DataDir, trial.ListenNATS = t.TempDir(), "127.0.0.1:0"
			if out, err := exec.Command("cp", "-a", cfg.DataDir+"/.", trial.DataDir).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			path := filepath.Join(trial.DataDir, "jetstream", strings.TrimPrefix(file, root))
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(path, raw); err != nil {
				t.Fatal(err)
			}
			h, err := Open(t.Context(), trial)
			if err != nil {
				outcomes["does not start"]++
				t.Logf("%s: %v", what, err)
				continue
			}
			now, red := picture(t, h), h.troubles(t.Context())
			h.Close()
			_ = os.RemoveAll(trial.DataDir)
			switch {
			case len(red) > 0:
				outcomes["red"]++
			case now == shown:
				outcomes["whole"]++
			default:
				t.Errorf("%s: a quiet hole:\n%s\nit was\n%s", what, now, shown)
			}
		}
	}
	t.Logf("%d files: %v", len(files), outcomes)
	if outcomes["red"] == 0 {
		t.Error("no damage was noticed")
	}
}

// TestF28_LostEventsComeAgainFromTheSite loses the stream of events of a stopped hub.
func TestF28_LostEventsComeAgainFromTheSite(t *testing.T) {
	cfg, _, site := furnished(t)
	if err := os.RemoveAll(filepath.Join(streamDir(t, cfg.DataDir, stream.Events), "msgs")); err != nil {
		t.Fatal(err)
	}
	h := startHub(t, cfg)
	if red := strings.Join(h.troubles(t.Context()), "\n"); !strings.Contains(red, "stream EVENTS") {
		t.Fatalf("the hub says %q", red)
	}
	site.await(fleetsync.LinkUp)
	eventually(t, "the site is asked for all it was told is safe", func() bool {
		missing := site.ack().Missing
		return len(missing) == 1 && missing[0] == fleetsync.Range{From: 1, To: 40}
	})
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 1, 40))
	eventually(t, "nothing is missing", func() bool { ack := site.ack(); return ack.Upto == 40 && len(ack.Missing) == 0 })
	if events, err := clientOf(t, h).Events(t.Context(), api.EventQuery{Site: "shop-1"}); err != nil || len(events) != 40 {
		t.Fatalf("%d events, %v", len(events), err)
	}
	// It stays red over a start until somebody has looked.
	h.Close()
	again := startHub(t, cfg)
	if len(again.troubles(t.Context())) != 1 {
		t.Errorf("after another start the hub says %q", again.troubles(t.Context()))
	}
	again.Close()
	if settled, err := SettleLedger(cfg.DataDir); err != nil || len(settled) != 1 {
		t.Fatalf("settled %v, %v", settled, err)
	}
	if last := startHub(t, cfg); len(last.troubles(t.Context())) != 0 {
		t.Errorf("settled, the hub says %q", last.troubles(t.Context()))
	}
}

func streamDir(t *testing.T, data, name string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(data, "jetstream", "jetstream", "*", "streams", name))
	if err != nil || len(found) != 1 {
		t.Fatalf("stream %s: %v, %v", name, found, err)
	}
	return found[0]
}

// TestF11_ABackupFromBeforeIsRestored puts a hub back to a backup and has the site bring what came after.
func TestF11_ABackupFromBeforeIsRestored(t *testing.T) {
	cfg, shown, site := furnished(t)
	to := filepath.Join(t.TempDir(), "backup")
	store, err := OpenStopped(t.Context(), Keyed{Dir: cfg.DataDir, Log: cfg.Log})
	if err != nil {
		t.Fatal(err)
	}
	made, err := store.Backup(t.Context(), to)
	store.Close()
	if err != nil || len(made.Streams) != len(stream.Rules) {
		t.Fatalf("%+v, %v", made, err)
	}
	h := startHub(t, cfg)
	site.await(fleetsync.LinkUp)
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 41, 45))
	eventually(t, "later events are acknowledged", func() bool { return site.acked() == 45 })
	h.Close()

	if _, err = Restore(t.Context(), Keyed{Dir: cfg.DataDir, Log: cfg.Log}, to); err != nil {
		t.Fatal(err)
	}
	h = startHub(t, cfg)
	if now := picture(t, h); now != shown {
		t.Fatalf("restored:\n%s\nbacked up:\n%s", now, shown)
	}
	if red := h.troubles(t.Context()); len(red) != 0 {
		t.Errorf("a restored hub is red: %q", red)
	}
	site.await(fleetsync.LinkUp)
	state := snapshot("shop-1", "a", 2)
	state.Outbox = fleetsync.OutboxStatus{Next: 46, Acked: 45}
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	eventually(t, "what came after is asked for", func() bool {
		missing := site.ack().Missing
		return len(missing) == 1 && missing[0] == fleetsync.Range{From: 41, To: 45}
	})
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 41, 45))
	eventually(t, "all is acknowledged", func() bool { ack := site.ack(); return ack.Upto == 45 && len(ack.Missing) == 0 })
	h.Close()

	// A backup that is not what was written is refused, and changes nothing.
	path := filepath.Join(to, stream.Events+".snapshot")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Restore(t.Context(), Keyed{Dir: cfg.DataDir, Log: cfg.Log}, to); err == nil || !strings.Contains(err.Error(), "not what was written") {
		t.Fatalf("a damaged backup: %v", err)
	}
	h = startHub(t, cfg)
	site.await(fleetsync.LinkUp)
	if acked := site.acked(); acked != 45 {
		t.Errorf("after a refused restore events up to %d", acked)
	}
}

func TestARunningHubMakesBackups(t *testing.T) {
	cfg := configOf(t, t.TempDir())
	cfg.Backups = Backups{Dir: filepath.Join(t.TempDir(), "backups"), Every: time.Minute, Keep: 1}
	startHub(t, cfg)
	eventually(t, "a backup is there", func() bool {
		names := backupsIn(cfg.Backups.Dir)
		return len(names) == 1 && exists(filepath.Join(cfg.Backups.Dir, names[0], "backup.json"))
	})
}

// freePort is an address that nobody listens on now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
