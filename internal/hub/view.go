package hub

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// View is the hub's picture of its fleet, folded from what the streams hold. It is pure: no clock, no I/O; one goroutine at a time.
//
//	V1  It is a projection: folding the same messages again, from the start or twice, gives the same picture.
//	V2  It believes no name that the subject does not prove and no report that the site's key did not sign.
//	V3  Site records are folded before what speaks of their sites; apart from that the order of subjects does not matter.
//	V4  Silence is unknown: nothing it says is without the time of its last evidence, and nothing stays fresh by itself.
type View struct {
	hubKeys   []ed25519.PublicKey
	heartBeat time.Duration
	sites     map[bundle.SiteID]*siteView
	catalog   map[bundle.Ref]CatalogEntry
	releases  map[bundle.Digest]CatalogEntry // the same by manifest
	groups    map[bundle.Name]groupRecord
	plans     map[bundle.Name]planRecord
	holders   map[string]bundle.SiteID // by public key: of now, and of before
	throttled map[bundle.SiteID]bool   // who is, or was a moment ago

	notifications map[bundle.Name]notificationRecord
}

type siteView struct {
	record   SiteRecord
	ingest   *fleetsync.Ingest
	lives    lives
	note     heldNote
	desired  fleetsync.Assignment
	revision uint64 // sequence of the message of desired, 0 while that is not known
	// ordered and acked are the last messages of the hub's own that were verified: each comes back once it is stored.
	ordered  bundle.Digest
	acked    bundle.Digest
	told     fleetsync.Ack   // the newest that is on the bus, without its pace
	hello    fleetsync.Hello // the newest
	helloAt  time.Time
	absent   bool // the bus says that it is not connected
	behind   int  // hellos in a row that knew of another snapshot than is held
	refused  int
	refusal  string // the newest
	refuseAt time.Time
	quota    fleetsync.Quota
}

// Reasons not to believe a message, for who counts them.
var (
	errUnknownSite = errors.New("the site is not known")
	errReplayed    = errors.New("replayed")
)

// NewView is the picture of an empty fleet. hubKeys are the hub's own signing keys, those before a rotation too.
func NewView(hubKeys []ed25519.PublicKey, heartBeat time.Duration) *View {
	return &View{
		hubKeys: hubKeys, heartBeat: heartBeat, sites: map[bundle.SiteID]*siteView{}, catalog: map[bundle.Ref]CatalogEntry{},
		releases: map[bundle.Digest]CatalogEntry{}, groups: map[bundle.Name]groupRecord{}, plans: map[bundle.Name]planRecord{}, holders: map[string]bundle.SiteID{}, throttled: map[bundle.SiteID]bool{},
		notifications: map[bundle.Name]notificationRecord{},
	}
}

// Fold takes a message into the picture. An error says why it was refused; where it is about a site, the site's alarms say so too.
// folded is set for a batch of events.
func (v *View) Fold(m stream.Message) (folded *fleetsync.Folded, err error) {
	path, ours := strings.CutPrefix(m.Subject, "hf.")
	if !ours {
		return nil, fmt.Errorf("subject %.120q: unknown", m.Subject)
	}
	kind, rest, _ := strings.Cut(path, ".")
	switch kind {
	case "catalog":
		return nil, v.foldCatalog(m)
	case "group":
		return nil, v.foldGroup(m)
	case "plan":
		return nil, v.foldPlan(m)
	case "notification":
		return nil, v.foldNotification(m)
	}
	id, err := bundle.ParseSiteID(rest)
	if err != nil {
		return nil, fmt.Errorf("subject %.120q: %w", m.Subject, err)
	}
	if kind == "site" {
		return nil, v.foldSite(id, m)
	}
	site, known := v.sites[id]
	if !known {
		return nil, fmt.Errorf("subject %s: %w", m.Subject, errUnknownSite)
	}
	switch kind {
	case "desired":
		err = site.foldDesired(m, v.hubKeys)
	case "ack":
		err = site.foldAck(m, v.hubKeys)
	case "state":
		err = site.foldState(m)
	case "event":
		folded, err = site.foldEvents(m)
	case "hello":
		err = site.foldHello(m)
	default:
		return nil, fmt.Errorf("subject %.120q: unknown", m.Subject)
	}
	if err != nil {
		site.refuse(err, m.Time)
		return nil, fmt.Errorf("site %s: %w", id, err)
	}
	return folded, nil
}

func (v *View) foldCatalog(m stream.Message) error {
	var entry CatalogEntry
	if err := decodeRecord(m.Data, &entry); err != nil {
		return fmt.Errorf("%s: %w", m.Subject, err)
	}
	if CatalogSubject(entry.ref()) != m.Subject {
		return fmt.Errorf("%s: the record is of %s", m.Subject, entry.ref())
	}
	v.catalog[entry.ref()], v.releases[entry.Digest] = entry, entry
	return nil
}

func (v *View) foldSite(id bundle.SiteID, m stream.Message) error {
	var record SiteRecord
	if err := decodeRecord(m.Data, &record); err != nil {
		return fmt.Errorf("%s: %w", m.Subject, err)
	}
	if record.Site != id || len(record.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("%s: the record is of site %.80q with a key of %d bytes", m.Subject, record.Site, len(record.Key))
	}
	site, known := v.sites[id]
	switch {
	case !known:
		v.sites[id] = &siteView{record: record, ingest: fleetsync.NewIngest(id)}
	case record.Revision < site.record.Revision:
		return nil
	default:
		for key := range site.record.keys() {
			delete(v.holders, string(key))
		}
		if !slices.Equal(record.Key, site.record.Key) {
			site.note = heldNote{} // another device's is not its own
		}
		site.record = record
	}
	for key := range record.keys() {
		v.holders[string(key)] = id
	}
	return nil
}

func (s *siteView) foldDesired(m stream.Message, hubKeys []ed25519.PublicKey) error {
	digest := bundle.DigestOf(m.Data)
	if digest == s.ordered {
		s.revision = max(s.revision, m.Sequence)
		return nil
	}
	var assignment fleetsync.Assignment
	if err := fleetsync.OpenBy(fleetsync.TypeAssignment, m.Data, hubKeys, &assignment); err != nil {
		return err
	}
	if assignment.Site != s.record.Site {
		return fmt.Errorf("assignment: it is for site %.80q", assignment.Site)
	}
	switch {
	case assignment.Sequence > s.desired.Sequence:
		s.desired, s.revision, s.ordered = assignment, m.Sequence, digest
	case assignment.Sequence == s.desired.Sequence && m.Sequence > s.revision: // signed anew
		s.revision, s.ordered = m.Sequence, digest
	}
	return nil
}

func (s *siteView) foldAck(m stream.Message, hubKeys []ed25519.PublicKey) error {
	digest := bundle.DigestOf(m.Data)
	if digest == s.acked {
		return nil
	}
	var ack fleetsync.Ack
	if err := fleetsync.OpenBy(fleetsync.TypeAck, m.Data, hubKeys, &ack); err != nil {
		return err
	}
	if err := s.ingest.Acked(ack, m.Time); err != nil {
		return err
	}
	s.acked, s.told = digest, ack
	s.told.Pace = 0
	return nil
}

func (s *siteView) foldState(m stream.Message) error {
	var state fleetsync.State
	if err := s.record.open(fleetsync.TypeState, m, &state); err != nil {
		return err
	}
	s.lives.hear(state.Epoch, state.Started, m.Time)
	s.note.see(state.Note)
	_, err := s.ingest.State(state, m.Time)
	return err
}

func (s *siteView) foldEvents(m stream.Message) (*fleetsync.Folded, error) {
	var batch fleetsync.EventBatch
	if err := s.record.open(fleetsync.TypeEvents, m, &batch); err != nil {
		return nil, err
	}
	folded, err := s.ingest.Events(batch, m.Time)
	if err != nil {
		return nil, err
	}
	return &folded, nil
}

func (s *siteView) foldHello(m stream.Message) error {
	var hello fleetsync.Hello
	if err := s.record.open(fleetsync.TypeHello, m, &hello); err != nil {
		return err
	}
	// Neither clock nor snapshot went on: replayed. Either alone may go back, by a clock put right or an agent started again.
	if hello.Epoch == s.hello.Epoch && !hello.At.After(s.hello.At) && hello.State <= s.hello.State {
		return fmt.Errorf("hello: heard before: %w", errReplayed)
	}
	if err := s.ingest.Hello(hello, m.Time); err != nil {
		return err
	}
	s.hello, s.helloAt = hello, m.Time
	if state, _ := s.ingest.Snapshot(); hello.State > 0 && (state == nil || state.Epoch != hello.Epoch || state.Sequence != hello.State) {
		s.behind++
	} else {
		s.behind = 0
	}
	return nil
}

// behindLong is after how many hellos a snapshot that the site has sent and the hub does not hold is no longer on its way, but lost.
const behindLong = 2

// maxRefusal bounds what a refusal may put into an alarm, in bytes.
const maxRefusal = 300

func (s *siteView) refuse(err error, at time.Time) {
	s.refused++
	if !at.Before(s.refuseAt) {
		text := strings.ToValidUTF8(err.Error(), "?")
		s.refusal, s.refuseAt = text[:min(len(text), maxRefusal)], at
	}
}

// Ack is what the site is to be told of its events; ok is false while it sent none.
func (v *View) Ack(id bundle.SiteID) (ack fleetsync.Ack, ok bool) {
	site, known := v.sites[id]
	if !known {
		return fleetsync.Ack{}, false
	}
	ack, ok = site.ingest.Ack()
	if site.behind >= behindLong && ack.Epoch == site.hello.Epoch {
		ack.Snapshot, ok = site.hello.State, true
		// A life that could not make its sequences durable has used them, and a later one begins below: it must go above what is held.
		if state, _ := site.ingest.Snapshot(); state != nil && state.Epoch == ack.Epoch {
			ack.Snapshot = max(ack.Snapshot, state.Sequence)
		}
	}
	return ack, ok
}

// Told says whether that acknowledgement is the newest on the bus.
func (v *View) Told(id bundle.SiteID, ack fleetsync.Ack) bool {
	site, known := v.sites[id]
	return known && reflect.DeepEqual(site.told, ack)
}

// Asked are the nonces of the sites whose newest hello has one and was received since a time.
func (v *View) Asked(since time.Time) map[bundle.SiteID]fleetsync.Hello {
	asked := map[bundle.SiteID]fleetsync.Hello{}
	for id, site := range v.sites {
		if site.hello.Nonce != "" && site.helloAt.After(since) {
			asked[id] = site.hello
		}
	}
	return asked
}

// Present takes from the bus which sites are connected to it, as of a time: one that is not is no longer counted as connected, however lately it was heard.
// One that was heard since the time is.
func (v *View) Present(connected map[bundle.SiteID]bool, asOf time.Time) {
	for id, site := range v.sites {
		site.absent = !connected[id] && !site.ingest.Heard().After(asOf)
	}
}

// Lacks says whether the site has sent what the hub does not have.
func (v *View) Lacks(id bundle.SiteID) bool {
	ack, ok := v.Ack(id)
	return ok && (len(ack.Missing) > 0 || ack.Snapshot > 0)
}

// Record is the site's record.
func (v *View) Record(id bundle.SiteID) (SiteRecord, bool) {
	site, known := v.sites[id]
	if !known {
		return SiteRecord{}, false
	}
	return site.record, true
}

// Assigned is the sequence of the site's newest assignment, 0 while it has none.
func (v *View) Assigned(id bundle.SiteID) uint64 {
	if s := v.sites[id]; s != nil {
		return s.desired.Sequence
	}
	return 0
}

// Ordered is the site's newest assignment that was folded, and its revision on the bus: 0 for none, or one that is not known. The bus may hold a newer one.
func (v *View) Ordered(id bundle.SiteID) (fleetsync.Assignment, uint64) {
	if s := v.sites[id]; s != nil && s.revision > 0 {
		return s.desired, s.revision
	}
	return fleetsync.Assignment{Site: id}, 0
}

// Took takes what this hub has just signed for a site and stored with a revision: it comes back as a message that need not be verified.
func (v *View) Took(a fleetsync.Assignment, sealed []byte, revision uint64) {
	if s := v.sites[a.Site]; s != nil && a.Sequence > s.desired.Sequence {
		s.desired, s.revision, s.ordered = a, revision, bundle.DigestOf(sealed)
	}
}

// Reported is the sequence of the assignment the site says it has, 0 while it has said nothing.
func (v *View) Reported(id bundle.SiteID) uint64 {
	if s := v.sites[id]; s != nil {
		if state, _ := s.ingest.Snapshot(); state != nil {
			return state.Assignment
		}
	}
	return 0
}

// Behind says that the site's newest snapshot is of an older assignment than its newest.
func (v *View) Behind(id bundle.SiteID) bool { return v.Reported(id) < v.Assigned(id) }

// Holes is how many sites have sent later events than some that are missing.
func (v *View) Holes() (n int) {
	for _, site := range v.sites {
		if site.ingest.Missing().From != 0 {
			n++
		}
	}
	return n
}

// HolderOf is the site that has the key, or had it.
func (v *View) HolderOf(key ed25519.PublicKey) (bundle.SiteID, bool) {
	id, held := v.holders[string(key)]
	return id, held
}

// Site is what is known of one site as of now.
func (v *View) Site(now time.Time, id bundle.SiteID) (api.Site, bool) {
	site, known := v.sites[id]
	if !known {
		return api.Site{}, false
	}
	return site.summary(now, v.heartBeat), true
}

// Sites are those of the sites that are known, by name.
func (v *View) Sites(now time.Time, sites access.Sites) []api.Site {
	known := []api.Site{}
	for _, id := range v.ids() {
		if site := v.sites[id]; sites.Has(site.record.Labels) {
			known = append(known, site.summary(now, v.heartBeat))
		}
	}
	return known
}

// idsOf are those of the sites that have the freshness, or any where it is empty, by name.
func (v *View) idsOf(now time.Time, sites access.Sites, freshness api.Freshness) (ids []bundle.SiteID) {
	for id, site := range v.sites {
		if sites.Has(site.record.Labels) && (freshness == "" || site.freshness(now, v.heartBeat) == freshness) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func (v *View) ids() []bundle.SiteID { return slices.Sorted(maps.Keys(v.sites)) }

func (s *siteView) summary(now time.Time, heartBeat time.Duration) api.Site {
	summary := api.Site{
		ID: s.record.Site, Labels: s.record.Labels, Added: s.record.Added,
		Freshness: s.freshness(now, heartBeat), Connected: s.connected(now, heartBeat),
		Sequence: s.desired.Sequence, Assigned: s.desired.Bundles, Alarms: slices.Concat(s.record.alarms(), s.alarms(), s.throttleAlarm(now)), Status: s.record.status(),
		Throttled: s.quota.Throttled(now),
	}
	if c := s.record.Cordoned; c != nil {
		summary.Cordoned = &api.Ruling{At: c.At, By: c.By, Why: c.Why}
	}
	if summary.Assigned == nil {
		summary.Assigned = []fleetsync.AssignedBundle{}
	}
	if heard := s.ingest.Heard(); !heard.IsZero() {
		summary.LastSeen = &heard
	}
	if state, at := s.ingest.Snapshot(); state != nil {
		if s.record.formerly(at) && state.Sealing != nil {
			own := *state
			own.Sealing, state = nil, &own // nobody may seal for hardware that was replaced
		}
		summary.State, summary.StateAt = state, &at
	}
	summary.Events.Epoch, summary.Events.Upto = s.ingest.Window()
	summary.Events.Flaws = s.ingest.Flaws()
	return summary
}

// silentAfter is until when the site counts as connected where nothing more is heard of it.
func (s *siteView) silentAfter(heartBeat time.Duration) time.Time {
	state, _ := s.ingest.Snapshot()
	return state.SilentAfter(s.ingest.Heard(), heartBeat)
}

func (s *siteView) connected(now time.Time, heartBeat time.Duration) bool {
	return !s.absent && !s.ingest.Heard().IsZero() && !now.After(s.silentAfter(heartBeat))
}

// freshness is of the snapshot as much as of the site: a site that says hello with a newer snapshot than the hub holds makes the held one stale.
func (s *siteView) freshness(now time.Time, heartBeat time.Duration) api.Freshness {
	switch state, at := s.ingest.Snapshot(); {
	case s.ingest.Heard().IsZero():
		return api.Unknown
	case !s.connected(now, heartBeat):
		return api.Stale
	case state != nil && s.helloAt.After(at) && (s.hello.Epoch != state.Epoch || s.hello.State > state.Sequence):
		return api.Stale
	}
	return api.Fresh
}

func (s *siteView) alarms() []string {
	alarms := s.ingest.Alarms()
	if s.refused > 0 {
		alarms = append(alarms, fmt.Sprintf("refused messages: %d, the last at %s: %s", s.refused, s.refuseAt.UTC().Format(time.RFC3339), s.refusal))
	}
	if state, _ := s.ingest.Snapshot(); state != nil {
		if state.Assignment > s.desired.Sequence {
			alarms = append(alarms, fmt.Sprintf("the site has assignment %d, the hub knows %d: the hub's store was lost or put back", state.Assignment, s.desired.Sequence))
		}
		if state.Store != "" {
			alarms = append(alarms, "store: "+state.Store)
		}
		if state.PutBack != "" {
			alarms = append(alarms, "memory: "+state.PutBack)
		}
	}
	return alarms
}

// Drift is the uncorrected drift of one of the sites, or of all of them where only is empty.
func (v *View) Drift(now time.Time, only bundle.SiteID, sites access.Sites) []api.SiteDrift {
	drift := []api.SiteDrift{}
	for _, id := range v.ids() {
		site := v.sites[id]
		state, at := site.ingest.Snapshot()
		if state == nil || (only != "" && id != only) || !sites.Has(site.record.Labels) {
			continue
		}
		for _, status := range state.Bundles {
			if status.DriftCount > 0 || len(status.Drift) > 0 {
				drift = append(drift, api.SiteDrift{
					Site: id, Bundle: status.Name, At: at, Freshness: site.freshness(now, v.heartBeat),
					Corrected: status.Corrected, Drift: status.Drift, Count: status.DriftCount,
				})
			}
		}
	}
	return drift
}

// Entry is one entry of the catalog.
func (v *View) Entry(ref bundle.Ref) (CatalogEntry, bool) {
	entry, known := v.catalog[ref]
	return entry, known
}

// EntryWith is an entry of any name with the content.
func (v *View) EntryWith(content bundle.Digest) (CatalogEntry, bool) {
	for _, entry := range v.catalog {
		if entry.Content == content {
			return entry, true
		}
	}
	return CatalogEntry{}, false
}

// Releases are the entries of a name, the highest counter first.
func (v *View) Releases(name bundle.Name) []CatalogEntry {
	var releases []CatalogEntry
	for ref, entry := range v.catalog {
		if ref.Name == name {
			releases = append(releases, entry)
		}
	}
	slices.SortFunc(releases, func(a, b CatalogEntry) int { return compareReleases(b, a) })
	return releases
}

func compareReleases(a, b CatalogEntry) int {
	switch {
	case a.Name != b.Name:
		return strings.Compare(string(a.Name), string(b.Name))
	case a.Counter != b.Counter:
		if a.Counter < b.Counter {
			return -1
		}
		return 1
	}
	return strings.Compare(string(a.Version), string(b.Version))
}

// Bundles is the catalog by name and counter, with those of the sites that are assigned each and those of them that say, and said lately, that
// they run it.
func (v *View) Bundles(now time.Time, sites access.Sites) []api.Bundle {
	entries := slices.SortedFunc(maps.Values(v.catalog), compareReleases)
	bundles := make([]api.Bundle, len(entries))
	for i, entry := range entries {
		bundles[i] = v.bundle(now, entry, sites)
	}
	return bundles
}

// Bundle is one entry of the catalog with its counts.
func (v *View) Bundle(now time.Time, ref bundle.Ref, sites access.Sites) (api.Bundle, bool) {
	entry, known := v.catalog[ref]
	if !known {
		return api.Bundle{}, false
	}
	return v.bundle(now, entry, sites), true
}

func (v *View) bundle(now time.Time, entry CatalogEntry, sites access.Sites) api.Bundle {
	b := api.Bundle{
		Name: entry.Name, Version: entry.Version, Counter: entry.Counter, Digest: entry.Digest, Content: entry.Content, Objects: entry.Objects,
		Size: entry.Size, Wire: entry.Wire, Deltas: entry.Deltas, Key: entry.Key, Created: entry.Created, Pushed: entry.Pushed,
	}
	for _, site := range v.sites {
		for _, assigned := range site.desired.Bundles {
			if assigned.Digest != entry.Digest || !sites.Has(site.record.Labels) {
				continue
			}
			b.Sites++
			if site.runs(assigned) && site.freshness(now, v.heartBeat) == api.Fresh {
				b.Current++
			}
		}
	}
	return b
}

// runs says whether the site's last snapshot has the bundle current, this digest and no other.
func (s *siteView) runs(assigned fleetsync.AssignedBundle) bool {
	state, _ := s.ingest.Snapshot()
	return state != nil && slices.ContainsFunc(state.Bundles, func(status fleetsync.BundleStatus) bool {
		return status.Name == assigned.Name && status.CurrentDigest == assigned.Digest && status.Phase == fleetsync.PhaseCurrent
	})
}
