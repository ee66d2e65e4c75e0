package tuf_test

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const (
	day  = 24 * time.Hour
	year = 365 * day
)

// shelf is a Source in memory: everything that was ever published, by name.
type shelf struct {
	files map[string][]byte
	err   error // of every Get
}

func (s *shelf) Get(_ context.Context, name string) ([]byte, error) {
	if s.err != nil {
		return nil, s.err
	}
	if raw, ok := s.files[name]; ok {
		return raw, nil
	}
	return nil, fmt.Errorf("%s: %w", name, tuf.ErrNotFound)
}

func (s *shelf) copy() *shelf { return &shelf{files: maps.Clone(s.files)} }

// fleet is the desk of a fleet: its keys, what is published, and the shelf it lies on.
type fleet struct {
	t         testing.TB
	holders   []*verifytest.Key
	threshold int
	online    *verifytest.Key
	trust     *verify.Trust
	now       time.Time
	published tuf.Metadata
	shelf     *shelf
}

func signer(key *verifytest.Key) signature.Signer {
	s, err := signature.LoadSigner(key.Private(), crypto.SHA256)
	if err != nil {
		panic(err)
	}
	return s
}

func newFleet(t testing.TB, holders, threshold int) *fleet {
	t.Helper()
	f := &fleet{t: t, threshold: threshold, online: verifytest.NewKey(), trust: verifytest.Trust(verifytest.NewKey()), now: noon,
		shelf: &shelf{files: map[string][]byte{}}}
	for range holders {
		f.holders = append(f.holders, verifytest.NewKey())
	}
	f.publish(f.root(), f.holders)
	return f
}

func (f *fleet) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func publics(keys []*verifytest.Key) (texts []string) {
	for _, key := range keys {
		texts = append(texts, key.Public())
	}
	return texts
}

// root makes the next root for the present holders.
func (f *fleet) root() []byte {
	f.t.Helper()
	root, err := author.NewRoot(f.published.Root, author.Holders{Root: publics(f.holders), Threshold: f.threshold, Online: []string{f.online.Public()}}, f.now.Add(year))
	f.must(err)
	return root
}

// publish signs a new root (nil: it stays) and a new trust document by the keys, and puts everything on the shelf.
func (f *fleet) publish(root []byte, keys []*verifytest.Key) {
	f.t.Helper()
	draft := &author.Draft{Schema: author.DraftSchema, Root: f.published.Root, NewRoot: root}
	targets, document, err := author.NewTargets(f.published.Targets, f.trust, f.now.Add(year))
	f.must(err)
	draft.NewTargets, draft.Fleet = targets, document
	for _, key := range keys {
		_, err := draft.Sign(signer(key))
		f.must(err)
	}
	raw, err := draft.Encode()
	f.must(err)
	draft, err = author.DecodeDraft(raw)
	f.must(err)
	newRoot, targets, document, err := draft.Finish(f.published)
	f.must(err)
	f.renew(newRoot, targets, document)
}

// renew signs snapshot and timestamp and puts everything on the shelf.
func (f *fleet) renew(root, targets, document []byte) {
	f.t.Helper()
	made, err := author.Renew(f.published, root, targets, document, signer(f.online), f.now, 7*day)
	f.must(err)
	f.published = made
	state, err := tuf.Load(made)
	f.must(err)
	for name, raw := range map[string][]byte{
		tuf.Name("root", state.Versions.Root): root, tuf.Name("targets", state.Versions.Targets): targets,
		tuf.Name("snapshot", state.Versions.Snapshot): made.Snapshot, tuf.TimestampName: made.Timestamp, tuf.FleetName(document): document,
	} {
		f.shelf.files[name] = raw
	}
}

// rotate makes n new roots, each replacing the oldest root key, without anything else.
func (f *fleet) rotate(n int) {
	f.t.Helper()
	for range n {
		old := f.holders
		f.holders = append(append([]*verifytest.Key{}, f.holders[1:]...), verifytest.NewKey())
		root := f.root()
		draft := &author.Draft{Schema: author.DraftSchema, Root: f.published.Root, NewRoot: root}
		for _, key := range append(append([]*verifytest.Key{}, old...), f.holders[len(f.holders)-1]) {
			_, err := draft.Sign(signer(key))
			f.must(err)
		}
		f.published.Root = draft.NewRoot
		version := versionOf(f.t, draft.NewRoot)
		f.shelf.files[tuf.Name("root", version)] = draft.NewRoot
	}
}

func versionOf(t testing.TB, root []byte) int64 {
	t.Helper()
	m, err := metadata.Root().FromBytes(root)
	if err != nil {
		t.Fatal(err)
	}
	return m.Signed.Version
}

// site begins with the first root alone.
func (f *fleet) site() tuf.Metadata { return tuf.Metadata{Root: f.shelf.files[tuf.Name("root", 1)]} }

func refresh(t testing.TB, from tuf.Source, have tuf.Metadata, now time.Time) (tuf.State, error) {
	t.Helper()
	dir := t.TempDir()
	state, err := tuf.Client{Source: from, Dir: dir}.Refresh(context.Background(), have, now)
	if left, readErr := os.ReadDir(dir); readErr != nil || len(left) > 0 {
		t.Errorf("working copies were left: %v, %v", left, readErr)
	}
	if state.Metadata.Root == nil {
		return state, err
	}
	raw, encodeErr := tuf.Encode(state.Metadata)
	if encodeErr != nil {
		t.Fatal(encodeErr)
	}
	stored, decodeErr := tuf.Decode(raw)
	if decodeErr != nil {
		t.Fatal(decodeErr)
	}
	again, loadErr := tuf.Load(stored)
	if loadErr != nil || again.Versions != state.Versions || (again.Trust == nil) != (state.Trust == nil) {
		t.Fatalf("what was to be stored does not load: %v: %+v, %+v", loadErr, again.Versions, state.Versions)
	}
	return state, err
}

func TestRefreshFromTheFirstRootAlone(t *testing.T) {
	f := newFleet(t, 3, 2)
	state, err := refresh(t, f.shelf, f.site(), noon)
	if err != nil || state.Trust == nil || state.Trust.Fleet != "test" {
		t.Fatalf("%v: %+v", err, state)
	}
	if state.Versions != (tuf.Versions{Root: 1, Timestamp: 1, Snapshot: 1, Targets: 1}) || !state.Expires.Equal(noon.Add(7*day)) {
		t.Errorf("%+v until %s", state.Versions, state.Expires)
	}
	// Nothing new: the fleet file is not fetched again, and nothing changes.
	delete(f.shelf.files, tuf.FleetName(state.Metadata.Fleet))
	again, err := refresh(t, f.shelf, state.Metadata, noon)
	if err != nil || again.Versions != state.Versions {
		t.Fatalf("%v: %+v", err, again.Versions)
	}
	f.trust.Floors = map[bundle.Name]bundle.Counter{"pos": 9}
	f.publish(nil, f.holders[:2])
	if again, err = refresh(t, f.shelf, again.Metadata, noon); err != nil || again.Trust.Floors["pos"] != 9 || again.Versions.Targets != 2 {
		t.Fatalf("%v: %+v", err, again.Trust)
	}
}

func TestT10_ChainsOfRotations(t *testing.T) {
	for _, length := range []int{1, 2, 20, 256, 257} {
		t.Run(fmt.Sprint(length), func(t *testing.T) {
			if testing.Short() && length > 20 {
				t.Skip("-short")
			}
			f := newFleet(t, 3, 2)
			site := f.site()
			first := f.published
			f.now = noon.Add(2 * year) // every root but the last has expired long ago
			f.published.Root = first.Root
			rotateExpired(f, length-1, noon.Add(day))
			f.rotate(1)
			f.publish(nil, f.holders)
			state, err := refresh(t, f.shelf, site, f.now)
			if length <= tuf.MaxRotations {
				if err != nil || state.Versions.Root != int64(length+1) || state.Trust == nil {
					t.Fatalf("%v: %+v", err, state.Versions)
				}
				return
			}
			if !errors.Is(err, tuf.ErrChainTooLong) || state.Versions.Root != tuf.MaxRotations+1 || state.Trust != nil {
				t.Fatalf("%v: %+v", err, state.Versions)
			}
			if state, err = refresh(t, f.shelf, state.Metadata, f.now); err != nil || state.Versions.Root != int64(length+1) {
				t.Fatalf("the next look: %v: %+v", err, state.Versions)
			}
		})
	}
}

// rotateExpired makes roots that expire at the time.
func rotateExpired(f *fleet, n int, at time.Time) {
	now := f.now
	f.now = at.Add(-year)
	f.rotate(n)
	f.now = now
}

// edit changes a file on a copy of the shelf.
func (f *fleet) edit(name string, change func(map[string]any)) *shelf {
	f.t.Helper()
	s := f.shelf.copy()
	var tree map[string]any
	f.must(json.Unmarshal(s.files[name], &tree))
	change(tree)
	raw, err := json.Marshal(tree)
	f.must(err)
	s.files[name] = raw
	return s
}

func signaturesOf(tree map[string]any) []any { return tree["signatures"].([]any) }

func TestT10_BrokenChains(t *testing.T) {
	f := newFleet(t, 3, 2)
	site, err := refresh(t, f.shelf, f.site(), noon)
	f.must(err)
	forked := newFleet(t, 3, 2) // another fleet's chain
	forked.rotate(1)
	takers := &fleet{t: t, holders: []*verifytest.Key{f.holders[0], verifytest.NewKey(), verifytest.NewKey()}, threshold: 2,
		online: f.online, now: noon, published: f.published}
	takeover := takers.root() // by one old holder and two new ones: enough for itself, not for its predecessor
	f.rotate(3)
	f.publish(nil, f.holders)
	second := tuf.Name("root", 2)

	lonely := &author.Draft{Schema: author.DraftSchema, Root: f.shelf.files[tuf.Name("root", 1)], NewRoot: takeover}
	for _, key := range takers.holders {
		_, err = lonely.Sign(signer(key))
		f.must(err)
	}
	if needs, err := lonely.Missing(); err != nil || len(needs) != 1 || needs[0].Of != "the holders before" || needs[0].Have != 1 {
		t.Errorf("missing: %+v, %v", needs, err)
	}

	for _, c := range []struct {
		name string
		from *shelf
		want error
	}{
		{"skipped: version 3 in the place of 2", f.with(second, f.shelf.files[tuf.Name("root", 3)]), tuf.ErrVersion},
		{"the same root again", f.with(second, f.shelf.files[tuf.Name("root", 1)]), tuf.ErrVersion},
		{"forked: another fleet's second root", f.with(second, forked.shelf.files[second]), tuf.ErrUnsigned},
		{"signed by one of the old holders only", f.with(second, lonely.NewRoot), tuf.ErrUnsigned},
		{"one signature repeated", f.edit(second, func(m map[string]any) {
			s := signaturesOf(m)
			m["signatures"] = []any{s[0], s[0], s[0]}
		}), tuf.ErrMalformed},
		{"the same key under another name", f.edit(second, func(m map[string]any) {
			s := signaturesOf(m)
			again := maps.Clone(s[0].(map[string]any))
			again["keyid"] = strings.Repeat("ab", 32)
			m["signatures"] = []any{s[0], again}
		}), tuf.ErrUnsigned},
		{"threshold 0", f.edit(second, func(m map[string]any) {
			m["signed"].(map[string]any)["roles"].(map[string]any)["root"].(map[string]any)["threshold"] = 0
		}), tuf.ErrUnsigned},
		{"no signatures", f.edit(second, func(m map[string]any) { m["signatures"] = []any{} }), tuf.ErrUnsigned},
		{"targets in the place of a root", f.with(second, f.shelf.files[tuf.Name("targets", 1)]), tuf.ErrMalformed},
		{"a duplicate key", f.with(second, bytes.Replace(f.shelf.files[second], []byte(`"signed"`), []byte(`"signed": {}, "signed"`), 1)), tuf.ErrMalformed},
		{"null", f.with(second, []byte(`{"signed": null, "signatures": []}`)), tuf.ErrMalformed},
		{"garbage", f.with(second, []byte("<html>")), tuf.ErrMalformed},
		{"empty", f.with(second, nil), tuf.ErrMalformed},
		{"bytes after it", f.with(second, append(bytes.Clone(f.shelf.files[second]), '{')), tuf.ErrMalformed},
		{"1 GiB", f.with(second, make([]byte, 1<<30)), tuf.ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, err := refresh(t, c.from, site.Metadata, noon)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if state.Versions != site.Versions || state.Trust == nil {
				t.Errorf("something changed: %+v, was %+v", state.Versions, site.Versions)
			}
			if len(err.Error()) > 600 {
				t.Errorf("%d bytes of error", len(err.Error()))
			}
		})
	}
	t.Run("a hole hides what is behind it", func(t *testing.T) {
		from := f.shelf.copy()
		delete(from.files, second)
		state, err := refresh(t, from, site.Metadata, noon)
		if err == nil || state.Versions != site.Versions {
			t.Fatalf("%v: %+v", err, state.Versions)
		}
	})
	if state, err := refresh(t, f.shelf, site.Metadata, noon); err != nil || state.Versions.Root != 4 {
		t.Fatalf("untouched: %v: %+v", err, state.Versions)
	}
}

// with is a copy of the shelf with one file replaced.
func (f *fleet) with(name string, raw []byte) *shelf {
	s := f.shelf.copy()
	s.files[name] = raw
	return s
}

func TestT05_RolledBackOrMixedMetadata(t *testing.T) {
	f := newFleet(t, 2, 2)
	old := f.shelf.copy()
	f.now = noon.Add(day)
	f.trust.Floors = map[bundle.Name]bundle.Counter{"pos": 9}
	f.publish(nil, f.holders)
	site, err := refresh(t, f.shelf, f.site(), f.now)
	f.must(err)

	stranger := newFleet(t, 2, 2)
	// A hub that lies with its real online key: newer timestamp and snapshot, older targets.
	evil := *f
	evil.shelf = f.shelf.copy()
	evil.renewWith(old.files[tuf.Name("targets", 1)], old.files[tuf.FleetName(old.files[fleetName(t, old)])])

	for _, c := range []struct {
		name string
		from *shelf
		want error
	}{
		{"yesterday's timestamp", f.with(tuf.TimestampName, old.files[tuf.TimestampName]), tuf.ErrVersion},
		{"everything of yesterday", old, tuf.ErrVersion},
		{"older targets under a newer timestamp", evil.shelf, tuf.ErrVersion},
		{"another fleet's timestamp", f.with(tuf.TimestampName, stranger.shelf.files[tuf.TimestampName]), tuf.ErrUnsigned},
		{"no timestamp", f.without(tuf.TimestampName), tuf.ErrMissing},
	} {
		t.Run(c.name, func(t *testing.T) {
			state, err := refresh(t, c.from, site.Metadata, f.now)
			if !errors.Is(err, c.want) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if state.Versions != site.Versions || state.Trust.Floors["pos"] != 9 {
				t.Errorf("went back: %+v", state.Versions)
			}
		})
	}
	fresh := f.site()
	for name, c := range map[string]struct {
		from *shelf
		want error
	}{
		"a snapshot that was swapped":   {f.with(tuf.Name("snapshot", 2), old.files[tuf.Name("snapshot", 1)]), tuf.ErrMismatch},
		"targets that were swapped":     {f.with(tuf.Name("targets", 2), old.files[tuf.Name("targets", 1)]), tuf.ErrMismatch},
		"a fleet file that was swapped": {f.with(tuf.FleetName(site.Metadata.Fleet), []byte(strings.Repeat("x", len(site.Metadata.Fleet)))), tuf.ErrMismatch},
		"a fleet file that is missing":  {f.without(tuf.FleetName(site.Metadata.Fleet)), tuf.ErrMissing},
		"a snapshot that is missing":    {f.without(tuf.Name("snapshot", 2)), tuf.ErrMissing},
	} {
		state, err := refresh(t, c.from, fresh, f.now)
		longer := c.want == tuf.ErrMismatch && errors.Is(err, tuf.ErrTooLarge) // signatures differ in length
		if !errors.Is(err, c.want) && !longer || state.Trust != nil {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
}

func (f *fleet) without(name string) *shelf {
	s := f.shelf.copy()
	delete(s.files, name)
	return s
}

func fleetName(t *testing.T, s *shelf) string {
	t.Helper()
	for name := range s.files {
		if strings.HasPrefix(name, "hf.trust.fleet.") {
			return name
		}
	}
	t.Fatal("no fleet file")
	return ""
}

// renewWith signs snapshot and timestamp over older targets.
func (f *fleet) renewWith(targets, document []byte) { f.renew(f.published.Root, targets, document) }

func TestT05_FreezeEndsWithTheTimestamp(t *testing.T) {
	f := newFleet(t, 2, 2)
	site, err := refresh(t, f.shelf, f.site(), noon)
	f.must(err)
	for after, want := range map[time.Duration]error{0: nil, 7 * day: nil, 7*day + time.Second: tuf.ErrExpired, 2 * year: tuf.ErrExpired} {
		state, err := refresh(t, f.shelf, site.Metadata, noon.Add(after))
		if !errors.Is(err, want) {
			t.Errorf("after %s: got %v, want %v", after, err, want)
		}
		// Expiry takes nothing away.
		if state.Versions != site.Versions || state.Trust == nil {
			t.Errorf("after %s: lost trust: %+v", after, state.Versions)
		}
	}
	if state, err := tuf.Load(site.Metadata); err != nil || state.Trust == nil {
		t.Errorf("after a restart: %v", err)
	}
}

// A file that was carried for months leads to the newest root as one of today does. What the offline keys signed ends when they said, no version goes back,
// and over a line the same bytes stay expired.
func TestP06_F19_ACarriedChainIsGoodHoweverLongItWasOnTheWay(t *testing.T) {
	f := newFleet(t, 2, 2)
	site, err := refresh(t, f.shelf, f.site(), noon)
	f.must(err)
	f.now = noon.Add(30 * day)
	rotateExpired(f, 3, f.now.Add(day)) // roots between need not be in their time, as ever
	f.trust.Keys[0].Revoked = true
	f.publish(f.root(), f.holders)
	file := f.shelf.copy()
	carried := tuf.Client{Source: file, Carried: true, Dir: t.TempDir()}
	at := f.now.Add(200 * day)
	if _, err := refresh(t, file, site.Metadata, at); !errors.Is(err, tuf.ErrExpired) {
		t.Fatalf("over a line: %v, want it expired", err)
	}
	state, err := carried.Refresh(t.Context(), site.Metadata, at)
	if err != nil || state.Versions.Root != 5 || state.Versions.Targets != site.Versions.Targets+1 || !state.Trust.Keys[0].Revoked {
		t.Fatalf("%+v, %v", state.Versions, err)
	}
	f.now = at
	f.publish(nil, f.holders)
	newest, err := refresh(t, f.shelf, state.Metadata, at)
	if err != nil || newest.Versions.Targets != state.Versions.Targets+1 {
		t.Fatalf("the line is back: %+v, %v", newest.Versions, err)
	}
	for what, c := range map[string]struct {
		have tuf.Metadata
		at   time.Time
		want error
	}{
		"older than what is there":     {newest.Metadata, at, tuf.ErrVersion},
		"after the offline keys' time": {site.Metadata, noon.Add(30*day + year + time.Second), tuf.ErrExpired},
	} {
		state, err := carried.Refresh(t.Context(), c.have, c.at)
		if !errors.Is(err, c.want) || state.Trust == nil || state.Versions.Targets < newest.Versions.Targets && what == "older than what is there" {
			t.Errorf("%s: %+v, %v, want %v", what, state.Versions, err, c.want)
		}
	}
}

// TestT05_UnchangedIsSaidOfTheSameMetadataAlone: what spares a site the verification never spares it anything newer.
func TestT05_UnchangedIsSaidOfTheSameMetadataAlone(t *testing.T) {
	f := newFleet(t, 2, 2)
	site, err := refresh(t, f.shelf, f.site(), noon)
	f.must(err)
	before := f.shelf.copy()
	f.renewWith(f.published.Targets, f.published.Fleet)
	renewed := f.shelf.copy()
	rotated := before.copy()
	f.rotate(1)
	rotated.files[tuf.Name("root", 2)] = f.shelf.files[tuf.Name("root", 2)]
	rootOnly, err := tuf.Load(f.site())
	f.must(err)
	for name, c := range map[string]struct {
		from tuf.Source
		have tuf.State
		at   time.Time
		want bool
	}{
		"the same":            {before, site, noon, true},
		"a newer timestamp":   {renewed, site, noon, false},
		"a newer root":        {rotated, site, noon, false},
		"the same, expired":   {before, site, noon.Add(7*day + time.Second), false},
		"no timestamp":        {f.without(tuf.TimestampName), site, noon, false},
		"a silent source":     {&shelf{err: errors.New("silent")}, site, noon, false},
		"a root without more": {before, rootOnly, noon, false},
	} {
		if got := (tuf.Client{Source: c.from}).Unchanged(context.Background(), c.have, c.at); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestT09_StolenReleaseKeyIsRevokedWhileASiteIsAway(t *testing.T) {
	f := newFleet(t, 3, 2)
	stolen, ours := verifytest.NewKey(), verifytest.NewKey()
	f.trust = verifytest.Trust(stolen, ours)
	f.publish(nil, f.holders)
	site, err := refresh(t, f.shelf, f.site(), noon)
	f.must(err)
	running := verifytest.Manifest(t, []byte("x"), 1)
	accepted, err := site.Trust.Manifest(verifytest.Twin{}, running, [][]byte{stolen.Sign(running)})
	f.must(err)

	f.rotate(2) // the site is away for two rotations of root keys, too
	f.trust.Keys[0].Revoked = true
	f.now = noon.Add(100 * day)
	f.publish(nil, f.holders)

	back, err := refresh(t, f.shelf, site.Metadata, f.now)
	f.must(err)
	evil := verifytest.Manifest(t, []byte("evil"), 1, func(m *bundle.Manifest) { m.Counter = 8 })
	if _, err := back.Trust.Manifest(verifytest.Twin{}, evil, [][]byte{stolen.Sign(evil)}); verify.ReasonOf(err) != verify.RevokedKey {
		t.Errorf("the thief: %v", err)
	}
	if _, err := back.Trust.Manifest(verifytest.Twin{}, evil, [][]byte{ours.Sign(evil)}); err != nil {
		t.Errorf("the owner: %v", err)
	}
	if _, err := back.Trust.Accepted(verifytest.Twin{}, running, [][]byte{stolen.Sign(running)}, accepted.Mark()); err != nil {
		t.Errorf("what runs: %v", err)
	}
}

func TestT08_StolenOnlineKeyChangesNobodysRights(t *testing.T) {
	f := newFleet(t, 3, 2)
	site, err := refresh(t, f.shelf, f.site(), noon)
	f.must(err)
	thief := verifytest.NewKey()
	evil := verifytest.Trust(thief)
	targets, document, err := author.NewTargets(f.published.Targets, evil, noon.Add(year))
	f.must(err)
	draft := &author.Draft{Schema: author.DraftSchema, Root: f.published.Root, NewTargets: targets, Fleet: document}
	if _, err := draft.Sign(signer(f.online)); !errors.Is(err, author.ErrNotHolder) {
		t.Fatalf("the online key signs targets: %v", err)
	}
	// Whoever writes their own tool signs them anyway.
	m, err := metadata.Targets().FromBytes(targets)
	f.must(err)
	_, err = m.Sign(signer(f.online))
	f.must(err)
	forged, err := m.ToBytes(true)
	f.must(err)
	if _, err := author.Renew(f.published, f.published.Root, forged, document, signer(f.online), noon, day); !errors.Is(err, tuf.ErrUnsigned) {
		t.Fatalf("our own tool publishes it: %v", err)
	}
	snapshot, timestamp := metadata.Snapshot(noon.Add(day)), metadata.Timestamp(noon.Add(day))
	snapshot.Signed.Version, timestamp.Signed.Version = 2, 2
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(2)
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(2)
	_, err = snapshot.Sign(signer(f.online))
	f.must(err)
	_, err = timestamp.Sign(signer(f.online))
	f.must(err)
	from := f.shelf.copy()
	from.files[tuf.Name("snapshot", 2)], err = snapshot.ToBytes(false)
	f.must(err)
	from.files[tuf.TimestampName], err = timestamp.ToBytes(false)
	f.must(err)
	from.files[tuf.Name("targets", 2)], from.files[tuf.FleetName(document)] = forged, document
	state, err := refresh(t, from, site.Metadata, noon)
	if !errors.Is(err, tuf.ErrUnsigned) || state.Versions != site.Versions {
		t.Fatalf("%v: %+v", err, state.Versions)
	}
	// A timestamp that names no snapshot makes go-tuf panic; here it is an error.
	timestamp.Signed.Meta = map[string]*metadata.MetaFiles{}
	timestamp.Signed.Version = 3
	timestamp.ClearSignatures()
	_, err = timestamp.Sign(signer(f.online))
	f.must(err)
	from.files[tuf.TimestampName], err = timestamp.ToBytes(false)
	f.must(err)
	if state, err = refresh(t, from, site.Metadata, noon); err == nil || state.Trust == nil || state.Versions != site.Versions {
		t.Fatalf("%v: %+v", err, state.Versions)
	}
}

func TestRootsThatWereSeenStay(t *testing.T) {
	f := newFleet(t, 3, 2)
	site, err := refresh(t, f.shelf, f.site(), noon)
	f.must(err)
	thief := f.online
	f.online = verifytest.NewKey()
	root := f.root()
	f.publish(root, f.holders)
	lost := f.without(tuf.TimestampName)
	seen, err := refresh(t, lost, site.Metadata, noon)
	if !errors.Is(err, tuf.ErrMissing) || seen.Versions.Root != 2 || seen.Versions.Targets != 1 || seen.Trust == nil {
		t.Fatalf("%v: %+v", err, seen.Versions)
	}
	// The old online key counts no more, although the new root is hidden now.
	hidden := f.without(tuf.Name("root", 2))
	old := &fleet{t: t, online: thief, now: noon, published: site.Metadata, shelf: hidden}
	old.renew(site.Metadata.Root, site.Metadata.Targets, site.Metadata.Fleet)
	state, err := refresh(t, hidden, seen.Metadata, noon)
	if !errors.Is(err, tuf.ErrUnsigned) || state.Versions != seen.Versions {
		t.Fatalf("%v: %+v", err, state.Versions)
	}
	if state, err = refresh(t, f.shelf, seen.Metadata, noon); err != nil || state.Versions.Targets != 2 || state.Metadata.Under != nil {
		t.Fatalf("%v: %+v", err, state.Versions)
	}
}

func TestSourceErrorsStayWhatTheyAre(t *testing.T) {
	f := newFleet(t, 1, 1)
	noLink := errors.New("no link")
	state, err := refresh(t, &shelf{err: noLink}, f.published, noon)
	if !errors.Is(err, noLink) || state.Trust == nil {
		t.Fatalf("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := (tuf.Client{Source: &shelf{err: ctx.Err()}, Dir: t.TempDir()}).Refresh(ctx, f.published, noon); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestT26_StoredMetadataIsVerifiedAgain(t *testing.T) {
	f := newFleet(t, 2, 2)
	other := newFleet(t, 2, 2)
	other.trust.Floors = map[bundle.Name]bundle.Counter{"pos": 1}
	other.publish(nil, other.holders)
	for name, edit := range map[string]func(*tuf.Metadata){
		"another fleet's trust document": func(m *tuf.Metadata) { m.Fleet = other.published.Fleet },
		"another fleet's targets":        func(m *tuf.Metadata) { m.Targets, m.Fleet = other.published.Targets, other.published.Fleet },
		"another fleet's root":           func(m *tuf.Metadata) { m.Root = other.published.Root },
		"no root":                        func(m *tuf.Metadata) { m.Root = nil },
		"half of it":                     func(m *tuf.Metadata) { m.Snapshot = nil },
		"an older root that is not":      func(m *tuf.Metadata) { m.Under = m.Root },
		"a changed byte": func(m *tuf.Metadata) {
			m.Targets = bytes.Replace(m.Targets, []byte(`"version": 1`), []byte(`"version": 2`), 1)
		},
	} {
		changed := f.published
		edit(&changed)
		if state, err := tuf.Load(changed); err == nil || state.Trust != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := tuf.Load(f.published); err != nil {
		t.Fatal(err)
	}
}

func TestPath(t *testing.T) {
	digest := strings.Repeat("ab", 32)
	for name, want := range map[string]string{
		tuf.Name("root", 7): "metadata/7.root.json", tuf.TimestampName: "metadata/timestamp.json",
		"hf.trust.fleet." + digest: "targets/" + digest + ".fleet.json",
		"hf.trust.root.0":          "", "hf.trust.root.*": "", "hf.trust.root.../x": "", "hf.trust.fleet.AB": "", "root.json": "", "hf.trust.timestamp.1": "",
	} {
		if got, err := tuf.Path(name); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	made := newFleet(f, 1, 1)
	raw, err := tuf.Encode(made.published)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := tuf.Decode(raw)
		if err != nil {
			return
		}
		if _, err := tuf.Load(m); err != nil && strings.Contains(err.Error(), "panic") {
			t.Logf("%v", err) // contained
		}
		if again, err := tuf.Encode(m); err != nil {
			t.Fatalf("decoded and cannot be encoded: %v, %s", err, again)
		}
	})
}

// FuzzRefresh gives the updater a timestamp that nobody checked.
func FuzzRefresh(f *testing.F) {
	made := newFleet(f, 1, 1)
	f.Add(made.published.Timestamp)
	f.Add(made.published.Root)
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.Equal(raw, made.published.Timestamp) {
			return
		}
		from := made.with(tuf.TimestampName, raw)
		state, err := tuf.Client{Source: from, Dir: t.TempDir()}.Refresh(context.Background(), made.published, noon)
		if state.Trust == nil || state.Versions.Root != 1 {
			t.Fatalf("%v: %+v", err, state.Versions)
		}
	})
}
