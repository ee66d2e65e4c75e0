package hub

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/internal/online"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

// rootOfTrust is whom the hub and its sites believe: what the offline keys published, with the hub's own snapshot and timestamp over it.
//
//	H1  The hub takes what a site would take: the very client of the sites walks from what is trusted to what is given, before anything is stored.
//	H2  Versions never go back and are never replaced: a fork, a hole and a rollback are refused, and nothing changes.
//	H3  What is stored is stored in the order in which it may be believed: the timestamp, which makes the rest count, last.
//	H4  The timestamp is renewed at half of its life. Nothing that expires stops the hub.
type rootOfTrust struct {
	publishing sync.Mutex // one change at a time
	state      atomic.Pointer[tuf.State]
	signer     atomic.Pointer[signer]
	held       []*signer // the online keys this hub was started with
}

// defaultTrustLife is how long a snapshot and timestamp are good.
const defaultTrustLife = 7 * 24 * time.Hour

// signer is an online key: it signs snapshot and timestamp, assignments, acknowledgements and answers to devices.
type signer struct {
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	name    string // NATS public key ("U…")
}

func newSigner(private ed25519.PrivateKey) (*signer, error) {
	public, ok := private.Public().(ed25519.PublicKey)
	if !ok || len(private) != ed25519.PrivateKeySize {
		return nil, errors.New("online key: not an Ed25519 key")
	}
	name, err := online.Name(public)
	return &signer{private, public, name}, err
}

// signing is the online key that the newest root of trust names.
func (h *Hub) signing() *signer { return h.root.signer.Load() }

// trust is the newest trust document.
func (h *Hub) trust() *verify.Trust { return h.root.state.Load().Trust }

// trustMetadata is the newest metadata as sites and devices are given it.
func (h *Hub) trustMetadata() (json.RawMessage, error) {
	return tuf.Encode(h.root.state.Load().Metadata)
}

// hubKeys are the public halves of all keys that are held: what was signed by one that is no longer named is signed anew.
func (h *Hub) hubKeys() (keys []ed25519.PublicKey) {
	for _, s := range h.root.held {
		keys = append(keys, s.public)
	}
	return keys
}

// trustOnBus is the stream TRUST as a tuf.Source.
type trustOnBus struct{ store Store }

// Get implements tuf.Source.
func (t trustOnBus) Get(ctx context.Context, name string) ([]byte, error) {
	message, err := t.store.Get(ctx, name)
	if errors.Is(err, fleetsync.ErrNotFound) {
		return nil, fmt.Errorf("%s: %w", name, tuf.ErrNotFound)
	}
	return message.Data, err
}

// openTrust joins what the bus holds with what the hub was started with; the newer counts, and both must be of one chain.
func (h *Hub) openTrust(ctx context.Context) error {
	for _, key := range h.cfg.Online {
		s, err := newSigner(key)
		if err != nil {
			return err
		}
		h.root.held = append(h.root.held, s)
	}
	given := h.cfg.Trust
	have, err := h.trustKept(ctx, given.Roots[0])
	if err != nil {
		return hinted{err, "the bus holds the trust of another fleet, or is damaged: the hub is started with the folder of its own fleet"}
	}
	h.root.state.Store(&have)
	if version, err := tuf.TargetsVersion(given.Targets); err == nil && version < have.Versions.Targets {
		given.Targets, given.Fleet = have.Metadata.Targets, have.Metadata.Fleet // the folder was left behind
	}
	_, err = h.publish(ctx, given)
	if err != nil && have.Trust != nil && h.root.signer.Load() == nil {
		h.chooseKept(have)
	}
	if err != nil && h.root.signer.Load() == nil {
		return hinted{err, "give the hub the folder that holdfast init made, and the online key that its root names: --trust FOLDER --online-key FILE"}
	}
	if err != nil {
		h.log.Error("the trust this hub was started with is not taken: what was published before counts", zap.Error(err))
	}
	return nil
}

// chooseKept signs on with a key that the kept root names: what was given at the start is not taken, or nothing can be renewed.
func (h *Hub) chooseKept(have tuf.State) {
	if s, err := h.signerFor(have.Metadata.Root, have.Trust); err == nil {
		h.root.signer.Store(s)
	}
}

// trustKept is what the bus holds, verified from a first root on. Time is left out: nothing that expired while the hub was away stops it.
func (h *Hub) trustKept(ctx context.Context, first []byte) (tuf.State, error) {
	state, err := walk(ctx, trustOnBus{h.store}, tuf.Metadata{Root: first}, time.Time{})
	if errors.Is(err, tuf.ErrMissing) {
		return state, nil // nothing was ever published here
	}
	return state, err
}

// walk refreshes until there is no further root.
func walk(ctx context.Context, source tuf.Source, have tuf.Metadata, now time.Time) (tuf.State, error) {
	for {
		state, err := tuf.Client{Source: source}.Refresh(ctx, have, now)
		if !errors.Is(err, tuf.ErrChainTooLong) {
			return state, err
		}
		have = state.Metadata
	}
}

// Publish takes what the offline keys have signed, and tells whether it was new.
func (h *Hub) Publish(ctx context.Context, given tuf.Publication) (api.Trust, error) {
	changed, err := h.publish(ctx, given)
	if err != nil {
		return api.Trust{}, err
	}
	shown := h.shownTrust()
	shown.Changed = changed
	if changed {
		h.log.Info("root of trust published", zap.Int64("root", shown.Root), zap.Int64("targets", shown.Targets))
		h.tellOfTrust(ctx)
	}
	return shown, nil
}

// tellOfTrust pokes every site. One that is away learns of it when it comes back.
func (h *Hub) tellOfTrust(ctx context.Context) {
	if err := h.resign(ctx); err != nil {
		h.log.Error("some assignments are still signed by the hub's former key: their sites do not believe them until the hub starts again", zap.Error(err))
	}
	h.mu.Lock()
	sites := h.view.ids()
	h.mu.Unlock()
	for _, id := range sites {
		h.poke(id)
	}
}

func (h *Hub) shownTrust() api.Trust {
	s := h.root.state.Load()
	return api.Trust{Fleet: s.Trust.Fleet, Root: s.Versions.Root, Targets: s.Versions.Targets, Snapshot: s.Versions.Snapshot, Timestamp: s.Versions.Timestamp,
		Expires: s.Expires, OnlineKey: h.signing().name}
}

// publish takes what is newer in a publication and makes snapshot and timestamp for it, also where these only need to be renewed.
func (h *Hub) publish(ctx context.Context, given tuf.Publication) (changed bool, err error) {
	h.root.publishing.Lock()
	defer h.root.publishing.Unlock()
	have := *h.root.state.Load()
	next, fresh, err := h.candidate(ctx, have, given)
	if err != nil {
		return false, err
	}
	signs, err := h.signerFor(next.Root, next.trust)
	if err != nil {
		return false, err
	}
	now := h.cfg.Now()
	if !fresh && have.Trust != nil && have.Stamp.Sub(now) > h.cfg.TrustLife/2 {
		h.root.signer.Store(signs)
		return false, nil
	}
	made, files, err := h.stamped(ctx, have, next, signs, now)
	if err != nil {
		return false, err
	}
	if err := h.keepTrust(ctx, files); err != nil {
		return false, fmt.Errorf("trust: %w", err)
	}
	// Commit point: the timestamp is on the bus.
	h.root.state.Store(&made)
	h.root.signer.Store(signs)
	return fresh, nil
}

// candidate is what would count next, not yet verified.
type candidate struct {
	tuf.Metadata
	roots [][]byte // that are new, in order
	trust *verify.Trust
}

// candidate looks at versions: what is known must be the very same, what is new must follow. fresh is false where there is nothing new.
func (h *Hub) candidate(ctx context.Context, have tuf.State, given tuf.Publication) (next candidate, fresh bool, err error) {
	next = candidate{Metadata: have.Metadata}
	last := have.Versions.Root
	for _, root := range given.Roots {
		version, err := tuf.RootVersion(root)
		if err != nil {
			return next, false, badTrust("Malformed", "the publication is malformed", err.Error())
		}
		if version <= have.Versions.Root {
			if err := h.sameRoot(ctx, have, version, root); err != nil {
				return next, false, err
			}
			continue
		}
		if version != last+1 {
			return next, false, badTrust("TrustHole", "the chain of roots has a hole", fmt.Sprintf("after root %d comes %d, got %d", last, last+1, version))
		}
		last = version
		next.roots, next.Root = append(next.roots, root), root
	}
	version, err := tuf.TargetsVersion(given.Targets)
	if err != nil {
		return next, false, badTrust("Malformed", "the publication is malformed", err.Error())
	}
	switch known := have.Versions.Targets; {
	case version < known:
		return next, false, badTrust("TrustRollback", "the trust document is older than the one that counts", fmt.Sprintf("targets %d or higher, got %d", known, version))
	case version == known && !bytes.Equal(given.Targets, have.Metadata.Targets):
		return next, false, badTrust("TrustFork", "another trust document was published under this version", fmt.Sprintf("targets %d", version))
	default:
		next.Targets, next.Fleet = given.Targets, given.Fleet
	}
	if next.trust, err = verify.DecodeTrust(next.Fleet); err != nil {
		return next, false, badTrust("Malformed", "the trust document is malformed", err.Error())
	}
	return next, len(next.roots) > 0 || version > have.Versions.Targets, nil
}

// sameRoot refuses a root that is another one than was published under its version.
func (h *Hub) sameRoot(ctx context.Context, have tuf.State, version int64, root []byte) error {
	known := have.Metadata.Root
	if version < have.Versions.Root {
		var err error
		known, err = trustOnBus{h.store}.Get(ctx, tuf.Name("root", version))
		if errors.Is(err, tuf.ErrNotFound) {
			return nil // from before this hub's first
		}
		if err != nil {
			return fmt.Errorf("trust: %w", err)
		}
	}
	if !bytes.Equal(known, root) {
		return badTrust("TrustFork", "another root was published under this version", fmt.Sprintf("root %d", version))
	}
	return nil
}

func badTrust(reason, title, detail string) *api.Error {
	return refuse(http.StatusUnprocessableEntity, reason, title, detail, "holdfast root show --dir DIR shows what the desk has published")
}

// signerFor is the held key that both root and trust document name: a hub that could not sign would leave its sites without news.
func (h *Hub) signerFor(root []byte, trust *verify.Trust) (*signer, error) {
	holders, err := author.HoldersOf(root)
	if err != nil {
		return nil, badTrust("Malformed", "the root is malformed", err.Error())
	}
	var named []ed25519.PublicKey
	for _, text := range holders.Online {
		if key, err := online.DecodePublic([]byte(text)); err == nil {
			named = append(named, key)
		}
	}
	in := func(keys []ed25519.PublicKey, s *signer) bool {
		return slices.ContainsFunc(keys, func(key ed25519.PublicKey) bool { return key.Equal(s.public) })
	}
	assignment, err1 := online.Assignment(trust)
	freshness, err2 := online.Freshness(trust)
	if err := errors.Join(err1, err2); err != nil {
		return nil, badTrust("NoHubKey", "the trust document names no key of a hub", err.Error())
	}
	for _, s := range h.root.held {
		if in(named, s) && in(assignment, s) && in(freshness, s) {
			return s, nil
		}
	}
	return nil, refuse(http.StatusUnprocessableEntity, "NotTheHubsKey", "this hub holds none of the online keys that the root of trust names",
		fmt.Sprintf("it was started with %d", len(h.root.held)), "start the hub with --online-key FILE of a key that is named; before a rotation with the old one and the new one")
}

// stamped makes snapshot and timestamp, and lets the sites' client walk to them from what is trusted now. It gives the files to be stored, in order.
func (h *Hub) stamped(ctx context.Context, have tuf.State, next candidate, signs *signer, now time.Time) (tuf.State, []stream.Message, error) {
	key, err := signature.LoadSigner(signs.private, crypto.SHA256)
	if err != nil {
		return tuf.State{}, nil, fmt.Errorf("trust: online key: %w", err)
	}
	made, err := author.Renew(have.Metadata, next.Root, next.Targets, next.Fleet, key, now, h.cfg.TrustLife)
	if err != nil {
		return tuf.State{}, nil, badTrust("TrustRefused", "the publication is not signed as it must be", err.Error())
	}
	versions, err := tuf.Load(made)
	if err != nil {
		return tuf.State{}, nil, badTrust("TrustRefused", "the publication is not signed as it must be", err.Error())
	}
	var files []stream.Message
	add := func(name string, raw []byte) { files = append(files, stream.Message{Subject: name, Data: raw}) }
	first := versions.Versions.Root - int64(len(next.roots)) + 1
	if have.Trust == nil { // the first publication
		add(tuf.Name("root", have.Versions.Root), have.Metadata.Root)
	}
	for i, root := range next.roots {
		add(tuf.Name("root", first+int64(i)), root)
	}
	add(tuf.FleetName(made.Fleet), made.Fleet)
	add(tuf.Name("targets", versions.Versions.Targets), made.Targets)
	add(tuf.Name("snapshot", versions.Versions.Snapshot), made.Snapshot)
	add(tuf.TimestampName, made.Timestamp)
	shelf := tuf.Shelf{Files: map[string][]byte{}, Below: trustOnBus{h.store}}
	for _, f := range files {
		shelf.Files[f.Subject] = f.Data
	}
	state, err := walk(ctx, shelf, have.Metadata, now)
	if err != nil {
		return tuf.State{}, nil, badTrust("TrustRefused", "no site would take the publication", err.Error())
	}
	if state.Versions != versions.Versions {
		return tuf.State{}, nil, badTrust("TrustRefused", "no site would take the publication", fmt.Sprintf("it would stop at %+v", state.Versions))
	}
	return state, files, nil
}

// keepTrust stores files that were verified. What is written once may be there already, from a publication that was cut off; snapshots count only
// through the timestamp and are written over.
func (h *Hub) keepTrust(ctx context.Context, files []stream.Message) error {
	for _, f := range files[:len(files)-2] {
		if err := h.createSame(ctx, f.Subject, f.Data); err != nil {
			return err
		}
	}
	for _, f := range files[len(files)-2:] {
		if _, err := h.store.Put(ctx, f.Subject, f.Data); err != nil {
			return err
		}
	}
	return nil
}

// keepFresh renews the timestamp for as long as the hub runs.
func (h *Hub) keepFresh(ctx context.Context) {
	every(ctx, min(max(h.cfg.TrustLife/16, 100*time.Millisecond), time.Hour), func() {
		m := h.root.state.Load().Metadata
		if _, err := h.publish(ctx, tuf.Publication{Roots: [][]byte{m.Root}, Targets: m.Targets, Fleet: m.Fleet}); err != nil && ctx.Err() == nil {
			h.log.Error("the timestamp of the root of trust cannot be renewed: sites keep what they have", zap.Error(err))
		}
	})
}

// resign signs anew what is signed by a key that the root of trust names no longer.
func (h *Hub) resign(ctx context.Context) error {
	var errs []error
	for _, kind := range []struct {
		stream, message string
		value           func() any
	}{
		{stream.Desired, fleetsync.TypeAssignment, func() any { return new(fleetsync.Assignment) }},
		{stream.Acks, fleetsync.TypeAck, func() any { return new(fleetsync.Ack) }},
	} {
		err := h.store.Each(ctx, kind.stream, "", 1, func(m stream.Message) error {
			value, signs := kind.value(), h.signing()
			if fleetsync.Open(kind.message, m.Data, signs.public, value) == nil {
				return nil
			}
			value = kind.value()
			if err := fleetsync.OpenBy(kind.message, m.Data, h.hubKeys(), value); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", m.Subject, err))
				return nil
			}
			sealed, err := fleetsync.Seal(kind.message, value, signs.private)
			if err == nil {
				err = h.putIf(ctx, m.Subject, sealed, m.Sequence)
			}
			if err != nil && !errors.Is(err, stream.ErrConflict) { // somebody wrote a newer one, by the new key
				errs = append(errs, fmt.Errorf("%s: %w", m.Subject, err))
			}
			return nil
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (h *Hub) postTrust(w http.ResponseWriter, r *http.Request) (api.Trust, error) {
	raw, err := readBody(w, r, tuf.MaxPublication)
	if err != nil {
		return api.Trust{}, err
	}
	given, err := tuf.DecodePublication(raw)
	if err != nil {
		return api.Trust{}, malformed("not a publication of a root of trust", err)
	}
	// A client that goes away does not leave it half done.
	return h.Publish(context.WithoutCancel(r.Context()), given)
}

func (h *Hub) getTrust(http.ResponseWriter, *http.Request) (api.Trust, error) {
	return h.shownTrust(), nil
}
