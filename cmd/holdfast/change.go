package main

import (
	"bytes"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

// rootLife is how long root and targets are good unless --expires says otherwise.
const rootLife = 365 * 24 * time.Hour

// change is the root of trust while it is being edited.
type change struct {
	trust   *verify.Trust
	holders author.Holders
	expires time.Time
	online  []byte // the hub's private key, where init made it
	newRoot bool   // a new root is wanted even if the holders stay
}

// dirFlag adds the folder that verbs about the root of trust work in.
func dirFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("dir", ".", "the fleet's `folder`, as holdfast init made it")
}

// change edits the root of trust in a folder into its draft. A draft that is there already is edited further; its signatures are void then.
func (d *desk) change(dir string, edit func(*change) error) error {
	f := fleetFolder{dir}
	trust, holders, published, err := f.current()
	if err != nil {
		return err
	}
	c := &change{trust: trust, holders: holders, expires: d.now().Add(rootLife)}
	if err := edit(c); err != nil {
		return err
	}
	draft, err := c.draft(published)
	if err != nil {
		return err
	}
	if draft == nil {
		d.sayf("nothing changes")
		return nil
	}
	c.warn(d)
	if old, err := f.draft(); err == nil && old != nil {
		d.sayf("%s is replaced: whoever signed it must sign again", f.draftPath())
	}
	return d.saveDraft(f.draftPath(), draft)
}

// warn tells of thresholds that nobody can meet.
func (c *change) warn(d *desk) {
	signers := len(c.trust.Identities)
	for _, key := range c.trust.Keys {
		if !key.Revoked {
			signers++
		}
	}
	for pattern, wanted := range c.trust.Thresholds {
		if wanted > signers {
			d.sayf("warning: bundles %s need %d signers, and there are only %d release keys: nothing can be released under that name", pattern, wanted, signers)
		}
	}
}

// draft makes the change, or nil if it is none against what is published.
func (c *change) draft(published tuf.Metadata) (*author.Draft, error) {
	draft := &author.Draft{Schema: author.DraftSchema, Root: published.Root}
	moved := c.newRoot || published.Root == nil
	if !moved {
		before, err := author.HoldersOf(published.Root)
		if err != nil {
			return nil, err
		}
		moved = !reflect.DeepEqual(before, c.holders)
	}
	var err error
	if moved {
		if draft.NewRoot, err = author.NewRoot(published.Root, c.holders, c.expires); err != nil {
			return nil, err
		}
	}
	targets, fleet, err := author.NewTargets(published.Targets, c.trust, c.expires)
	if err != nil {
		return nil, err
	}
	// New holders must sign the trust document, too: the signatures of those who left no longer count.
	if !moved && bytes.Equal(fleet, published.Fleet) {
		return nil, nil
	}
	draft.NewTargets, draft.Fleet = targets, fleet
	return draft, nil
}

func (d *desk) saveDraft(path string, draft *author.Draft) error {
	raw, err := draft.Encode()
	if err != nil {
		return err
	}
	if err := d.writeWhole(path, raw, 0o644); err != nil {
		return err
	}
	return d.sayNext(path, draft)
}

// sayNext tells what the draft still needs.
func (d *desk) sayNext(path string, draft *author.Draft) error {
	needs, err := draft.Missing()
	if err != nil {
		return err
	}
	d.sayf("draft: %s", path)
	for _, n := range needs {
		d.sayf("  %s %d has %d of the %d signatures it needs of %s", n.File, n.Version, n.Have, n.Want, n.Of)
	}
	if len(needs) == 0 {
		d.sayf("next: holdfast root publish --dir %s", dirOf(path))
		return nil
	}
	d.sayf("next: holdfast root show %s, then holdfast root sign %s --key K, by each key holder", path, path)
	return nil
}

func dirOf(path string) string {
	if i := strings.LastIndexByte(path, os.PathSeparator); i > 0 {
		return path[:i]
	}
	return "."
}

// window reads --not-before and --not-after: a time, or a date, which is midnight UTC.
func window(notBefore, notAfter string) (from, until *time.Time, err error) {
	if from, err = instant("--not-before", notBefore); err != nil {
		return nil, nil, err
	}
	until, err = instant("--not-after", notAfter)
	return from, until, err
}

func instant(flag, value string) (*time.Time, error) {
	if value == "" {
		return nil, nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, value); err == nil {
			at = at.UTC().Truncate(time.Second)
			return &at, nil
		}
	}
	return nil, &failure{code: exitUsage, message: fmt.Sprintf("%s %q: want a date such as 2026-03-01 or a time such as 2026-03-01T12:00:00Z", flag, value)}
}

// findKey finds the one id that a person means: by a file with the public key, the whole id, or its beginning.
func findKey(ids []verify.KeyID, named string) (verify.KeyID, error) {
	if raw, err := readLimited(named, verify.MaxTrustSize); err == nil {
		id, err := author.IDOf(string(raw))
		if err != nil {
			return "", fmt.Errorf("%s: %w", named, err)
		}
		named = string(id)
	}
	var found []verify.KeyID
	for _, id := range ids {
		text := string(id)
		if text == named {
			return id, nil
		}
		if hex := strings.TrimPrefix(named, "sha256:"); len(hex) >= 6 && strings.HasPrefix(strings.TrimPrefix(text, "sha256:"), hex) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", &failure{code: exitNotFound, message: fmt.Sprintf("key %s: there is no such key here", named), hint: "holdfast key list shows them; six characters of an id are enough"}
	}
	return "", &failure{code: exitUsage, message: fmt.Sprintf("key %s: %d keys begin like that", named, len(found)), hint: "give more of its id"}
}

// idsOf names keys in PEM.
func idsOf(keys []string) ([]verify.KeyID, error) {
	ids := make([]verify.KeyID, 0, len(keys))
	for _, text := range keys {
		id, err := author.IDOf(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}
