package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

// keyEntry is one line of key list.
type keyEntry struct {
	Key       verify.KeyID `json:"key"`
	Role      string       `json:"role"` // release, root, online
	Names     []string     `json:"names,omitempty"`
	NotBefore *time.Time   `json:"notBefore,omitempty"`
	NotAfter  *time.Time   `json:"notAfter,omitempty"`
	Revoked   bool         `json:"revoked,omitempty"`
}

func newKeyList(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "Show who may release what, and who holds the root",
		Long:    `Show who may release what, and who holds the root of trust, as the draft will have it where there is one, and as it is published otherwise.`,
		Example: "  holdfast key list --dir fleet",
		Args:    exactly(),
	}
	f := outputFlag(cmd)
	dir := dirFlag(cmd)
	cmd.RunE = func(*cobra.Command, []string) error {
		trust, holders, _, err := fleetFolder{*dir}.current()
		if err != nil {
			return err
		}
		entries, err := keyEntries(trust, holders)
		if err != nil {
			return err
		}
		return d.show(*f, entries, func() page {
			return page{tables: []table{keyTable(entries, d.now())}}
		})
	}
	return cmd
}

func keyEntries(trust *verify.Trust, holders author.Holders) ([]keyEntry, error) {
	entries := releaseEntries(trust)
	for _, group := range []struct {
		role string
		keys []string
	}{{fmt.Sprintf("root, %d of %d", holders.Threshold, len(holders.Root)), holders.Root}, {"online", holders.Online}} {
		ids, err := idsOf(group.keys)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			entries = append(entries, keyEntry{Key: id, Role: group.role})
		}
	}
	return entries, nil
}

func releaseEntries(trust *verify.Trust) (entries []keyEntry) {
	for _, k := range trust.Keys {
		entries = append(entries, keyEntry{k.ID, "release", k.Names, k.NotBefore, k.NotAfter, k.Revoked})
	}
	for _, i := range trust.Identities {
		entries = append(entries, keyEntry{identityID(i), "release", i.Names, i.NotBefore, i.NotAfter, i.Revoked})
	}
	return entries
}

func keyTable(entries []keyEntry, now time.Time) table {
	t := table{head: []string{"KEY", "ROLE", "NAMES", "STATE"}, none: "no keys"}
	for _, e := range entries {
		state := cell{"valid", good}
		switch {
		case e.Revoked:
			state = cell{"revoked", bad}
		case e.NotAfter != nil && now.After(*e.NotAfter):
			state = cell{"signs nothing new since " + e.NotAfter.Format(time.RFC3339), warn}
		case e.NotBefore != nil && now.Before(*e.NotBefore):
			state = cell{"from " + e.NotBefore.Format(time.RFC3339), warn}
		case e.NotAfter != nil:
			state.text = "valid until " + e.NotAfter.Format(time.RFC3339)
		}
		t.add(text(string(e.Key)), text(e.Role), text(orDash(strings.Join(e.Names, " "))), state)
	}
	return t
}
