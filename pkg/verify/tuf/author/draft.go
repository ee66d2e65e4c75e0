package author

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// DraftSchema is the schema identifier of a Draft's file.
const DraftSchema = "holdfast.dev/root-draft/v1"

// MaxDraft is the most bytes that an encoded Draft may have.
const MaxDraft = 1 << 20

// Draft is a change of the root of trust that is being signed.
type Draft struct {
	Schema string `json:"schema"`
	// Root is the root that is trusted now; there is none before the first.
	Root json.RawMessage `json:"root,omitempty"`
	// NewRoot and NewTargets are what is to be signed; at least one is there.
	NewRoot    json.RawMessage `json:"newRoot,omitempty"`
	NewTargets json.RawMessage `json:"newTargets,omitempty"`
	// Fleet is the trust document that NewTargets commit to.
	Fleet json.RawMessage `json:"fleet,omitempty"`
}

// Need is what a file of a draft lacks.
type Need struct {
	File    string // "root" or "targets"
	Version int64
	Of      string // whose signatures: "the holders before" or "the holders after"
	Have    int
	Want    int
	Holders []verify.KeyID // that have not signed yet
}

// Summary is what a draft would change, for the eyes of who signs it.
type Summary struct {
	RootVersion    int64     // 0: the root stays
	RootExpires    time.Time //
	TargetsVersion int64     // 0: the trust document stays
	TargetsExpires time.Time
	Before, After  Holders // equal where the root stays
	Trust          *verify.Trust
}

// DecodeDraft reads a draft and checks that its parts belong together.
func DecodeDraft(raw []byte) (*Draft, error) {
	var d Draft
	if err := strict.Decode(raw, MaxDraft, &d); err != nil {
		return nil, fmt.Errorf("draft: %w", err)
	}
	if _, err := d.Review(); err != nil {
		return nil, err
	}
	return &d, nil
}

// Encode writes a draft.
func (d *Draft) Encode() ([]byte, error) {
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("draft: encode: %w", err)
	}
	return append(raw, '\n'), nil
}

// current is the root under which the new targets will stand.
func (d *Draft) current() []byte {
	if d.NewRoot != nil {
		return d.NewRoot
	}
	return d.Root
}

// Review says what the draft would change, from the very bytes that are signed.
func (d *Draft) Review() (s Summary, err error) {
	defer func() {
		if p := recover(); p != nil { // go-tuf takes for granted what a draft may lack
			s, err = Summary{}, fmt.Errorf("draft: panic: %.200v", p)
		}
	}()
	if d.Schema != DraftSchema {
		return s, fmt.Errorf("draft: schema %.80q, want %s", d.Schema, DraftSchema)
	}
	if d.NewRoot == nil && d.NewTargets == nil || d.current() == nil {
		return s, errors.New("draft: there is nothing to sign")
	}
	if s.After, err = HoldersOf(d.current()); err != nil {
		return s, fmt.Errorf("draft: %w", err)
	}
	s.Before = s.After
	if d.Root != nil {
		if s.Before, err = HoldersOf(d.Root); err != nil {
			return s, fmt.Errorf("draft: %w", err)
		}
	}
	if d.NewRoot != nil {
		if err := d.reviewRoot(&s); err != nil {
			return s, fmt.Errorf("draft: root: %w", err)
		}
	}
	if d.NewTargets != nil {
		if err := d.reviewTargets(&s); err != nil {
			return s, fmt.Errorf("draft: targets: %w", err)
		}
	}
	return s, nil
}

func (d *Draft) reviewRoot(s *Summary) error {
	next, err := metadata.Root().FromBytes(d.NewRoot)
	if err != nil {
		return err
	}
	want := int64(1)
	if d.Root != nil {
		last, err := metadata.Root().FromBytes(d.Root)
		if err != nil {
			return err
		}
		want = last.Signed.Version + 1
	}
	if next.Signed.Version != want || next.Signed.Type != metadata.ROOT {
		return fmt.Errorf("%s of version %d, want root of version %d", next.Signed.Type, next.Signed.Version, want)
	}
	if err := s.After.Check(); err != nil {
		return err
	}
	s.RootVersion, s.RootExpires = next.Signed.Version, next.Signed.Expires
	return nil
}

func (d *Draft) reviewTargets(s *Summary) error {
	targets, err := metadata.Targets().FromBytes(d.NewTargets)
	if err != nil {
		return err
	}
	fleet, trust, err := d.fleet()
	if err != nil {
		return err
	}
	file := targets.Signed.Targets[tuf.FleetFile]
	if targets.Signed.Type != metadata.TARGETS || file == nil || len(targets.Signed.Targets) != 1 {
		return fmt.Errorf("want %s and nothing else", tuf.FleetFile)
	}
	if err := file.VerifyLengthHashes(fleet); err != nil {
		return fmt.Errorf("they do not commit to the trust document in the draft: %w", err)
	}
	s.TargetsVersion, s.TargetsExpires, s.Trust = targets.Signed.Version, targets.Signed.Expires, trust
	return nil
}

// fleet makes the exact bytes of the trust document, whatever its layout in the draft.
func (d *Draft) fleet() ([]byte, *verify.Trust, error) {
	trust, err := verify.DecodeTrust(d.Fleet)
	if err != nil {
		return nil, nil, err
	}
	raw, err := verify.EncodeTrust(trust)
	return raw, trust, err
}

// ErrNotHolder says that a key holds no role in the change.
var ErrNotHolder = errors.New("the key is not one of the root keys, neither before nor after the change")

// Sign adds the key's signature to everything in the draft that it may sign. It says whether anything was added: a second signature is not.
func (d *Draft) Sign(signer signature.Signer) (added bool, err error) {
	public, err := signer.PublicKey()
	if err != nil {
		return false, fmt.Errorf("draft: %w", err)
	}
	key, err := keyOf(public)
	if err != nil {
		return false, err
	}
	id, err := key.ID()
	if err != nil {
		return false, fmt.Errorf("draft: %w", err)
	}
	summary, err := d.Review()
	if err != nil {
		return false, err
	}
	after, before := holds(summary.After.Root, key), holds(summary.Before.Root, key)
	if !after && !before {
		return false, ErrNotHolder
	}
	if d.NewRoot != nil {
		root, err := metadata.Root().FromBytes(d.NewRoot)
		if err != nil {
			return false, fmt.Errorf("draft: root: %w", err)
		}
		if !signedBy(root.Signatures, id) {
			if d.NewRoot, err = sign(root, signer); err != nil {
				return false, fmt.Errorf("draft: root: %w", err)
			}
			added = true
		}
	}
	if d.NewTargets != nil && after {
		targets, err := metadata.Targets().FromBytes(d.NewTargets)
		if err != nil {
			return false, fmt.Errorf("draft: targets: %w", err)
		}
		if !signedBy(targets.Signatures, id) {
			if d.NewTargets, err = sign(targets, signer); err != nil {
				return false, fmt.Errorf("draft: targets: %w", err)
			}
			added = true
		}
	}
	return added, nil
}

func holds(keys []string, key *metadata.Key) bool {
	return slices.ContainsFunc(keys, func(text string) bool {
		k, err := parseKey(text)
		return err == nil && k.Value.PublicKey == key.Value.PublicKey
	})
}

func signedBy(signatures []metadata.Signature, id string) bool {
	return slices.ContainsFunc(signatures, func(s metadata.Signature) bool { return s.KeyID == id })
}

// Missing says whose signatures are still missing; nothing is when the draft is ready.
func (d *Draft) Missing() ([]Need, error) {
	summary, err := d.Review()
	if err != nil {
		return nil, err
	}
	var needs []Need
	note := func(file string, version int64, of string, holders []byte, signed any, signatures []metadata.Signature) error {
		need, err := needOf(holders, file, signed, signatures)
		if err != nil {
			return fmt.Errorf("draft: %s: %w", file, err)
		}
		need.Version, need.Of = version, of
		if need.Have < need.Want {
			needs = append(needs, need)
		}
		return nil
	}
	if d.NewRoot != nil {
		root, err := metadata.Root().FromBytes(d.NewRoot)
		if err != nil {
			return nil, fmt.Errorf("draft: root: %w", err)
		}
		if d.Root != nil {
			if err := note(metadata.ROOT, summary.RootVersion, "the holders before", d.Root, root, root.Signatures); err != nil {
				return nil, err
			}
		}
		if err := note(metadata.ROOT, summary.RootVersion, "the holders after", d.NewRoot, root, root.Signatures); err != nil {
			return nil, err
		}
	}
	if d.NewTargets != nil {
		targets, err := metadata.Targets().FromBytes(d.NewTargets)
		if err != nil {
			return nil, fmt.Errorf("draft: targets: %w", err)
		}
		if err := note(metadata.TARGETS, summary.TargetsVersion, "the holders after", d.current(), targets, targets.Signatures); err != nil {
			return nil, err
		}
	}
	return needs, nil
}

// needOf asks for each holder alone whether the signature that bears its name is valid.
func needOf(root []byte, role string, signed any, signatures []metadata.Signature) (Need, error) {
	m, err := metadata.Root().FromBytes(root)
	if err != nil {
		return Need{}, err
	}
	need := Need{File: role, Want: m.Signed.Roles[role].Threshold}
	all := m.Signed.Roles[role].KeyIDs
	for _, id := range all {
		m.Signed.Roles[role].KeyIDs, m.Signed.Roles[role].Threshold = []string{id}, 1
		if signedBy(signatures, id) && m.VerifyDelegate(role, signed) == nil {
			need.Have++
			continue
		}
		text, err := pemOf(m.Signed.Keys[id])
		if err != nil {
			return Need{}, err
		}
		keyID, err := IDOf(text)
		if err != nil {
			return Need{}, err
		}
		need.Holders = append(need.Holders, keyID)
	}
	return need, nil
}

// Finish gives the root, the targets and the trust document that count once the draft is published: the new ones, or those of previous.
func (d *Draft) Finish(previous tuf.Metadata) (root, targets, fleet []byte, err error) {
	needs, err := d.Missing()
	if err != nil {
		return nil, nil, nil, err
	}
	if len(needs) > 0 {
		n := needs[0]
		return nil, nil, nil, fmt.Errorf("draft: %s %d has %d of the %d signatures it needs of %s", n.File, n.Version, n.Have, n.Want, n.Of)
	}
	if d.Root != nil && !sameSigned(d.Root, previous.Root) || d.Root == nil && previous.Root != nil {
		return nil, nil, nil, errors.New("draft: the root changed since it was begun: begin it again")
	}
	root, targets, fleet = previous.Root, previous.Targets, previous.Fleet
	if d.NewRoot != nil {
		root = pretty(d.NewRoot)
	}
	if d.NewTargets == nil {
		return root, targets, fleet, nil
	}
	next, err := metadata.Targets().FromBytes(d.NewTargets)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("draft: targets: %w", err)
	}
	if targets != nil {
		last, err := metadata.Targets().FromBytes(targets)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("targets: %w", err)
		}
		if next.Signed.Version != last.Signed.Version+1 {
			return nil, nil, nil, fmt.Errorf("draft: targets of version %d, want %d: something was published since it was begun", next.Signed.Version, last.Signed.Version+1)
		}
	}
	fleet, _, err = d.fleet()
	return root, pretty(d.NewTargets), fleet, err
}

// sameSigned compares metadata whatever their layout.
func sameSigned(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// pretty lays a document out anew: what is in a draft is indented deeper.
func pretty(raw []byte) []byte {
	var out bytes.Buffer
	if json.Indent(&out, raw, "", "\t") != nil {
		return raw
	}
	return append(bytes.TrimSpace(out.Bytes()), '\n')
}
