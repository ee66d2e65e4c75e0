package main

import (
	"cmp"
	"errors"
	"slices"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

func newKeyRevoke(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke KEY",
		Short: "Take a release key's or a root key's rights away",
		Long: `Revoke a release key or an identity: sites accept nothing new by it, and what they accepted before goes on running and being corrected.
With --root the key no longer holds the root. KEY is a key's id, the first six characters of it, a file with the public key, or an
identity as key list shows it. What that takes away is shown first, with the bundles of the hub's catalog that the key signed. The change is a draft until enough root keys have signed it and it is published.

If the key was stolen, think of what the thief may have released already: a floor (holdfast root set --floor) stops it everywhere it is not yet.`,
		Example: "  holdfast key revoke 3f9a12 --dir fleet\n  holdfast key revoke bob.pub --root --root-threshold 2",
		Args:    exactly("KEY"),
	}
	dir := dirFlag(cmd)
	root := cmd.Flags().Bool("root", false, "it is a root key")
	threshold := cmd.Flags().Int("root-threshold", 0, "with --root: how many root keys must sign from now on; 0 leaves it")
	f, asked := outputFlag(cmd), destructive(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var shown error // of a dry run
		err := d.change(*dir, func(c *change) error {
			impact, err := c.foreseeRevocation(args[0], *root, *threshold, func() []api.Bundle { return d.catalog(cmd.Context()) })
			if err == nil && asked.dry {
				shown = d.showImpact(*f, impact)
				return errForeseen
			}
			if err == nil {
				err = d.draftImpact(asked, impact)
			}
			if err != nil {
				return err
			}
			if *root {
				return c.removeHolder(args[0], *threshold)
			}
			_, err = c.revoke(args[0])
			return err
		})
		if errors.Is(err, errForeseen) {
			return shown
		}
		return err
	}
	return cmd
}

// foreseeRevocation says what the revocation of a key takes away. catalog is asked for a release key.
func (c *change) foreseeRevocation(named string, root bool, threshold int, catalog func() []api.Bundle) (api.Impact, error) {
	ids, err := c.signers(), error(nil)
	if root {
		ids, err = idsOf(c.holders.Root)
	}
	if err != nil {
		return api.Impact{}, err
	}
	id, err := findKey(ids, named)
	if err != nil {
		return api.Impact{}, err
	}
	if root {
		return holderImpact(id, len(ids), cmp.Or(threshold, c.holders.Threshold)), nil
	}
	return keyImpact(c.trust, id, catalog()), nil
}

// signers are the release keys and identities, in the order of the trust document.
func (c *change) signers() (ids []verify.KeyID) {
	for _, key := range c.trust.Keys {
		ids = append(ids, key.ID)
	}
	for _, i := range c.trust.Identities {
		ids = append(ids, identityID(i))
	}
	return ids
}

// revoke marks a release key or an identity and gives a key's place, or -1.
func (c *change) revoke(named string) (int, error) {
	ids := c.signers()
	id, err := findKey(ids, named)
	if err != nil {
		return -1, err
	}
	place := slices.Index(ids, id)
	if place >= len(c.trust.Keys) {
		c.trust.Identities[place-len(c.trust.Keys)].Revoked = true
		return -1, nil
	}
	c.trust.Keys[place].Revoked = true
	return place, nil
}

func identityID(i verify.Identity) verify.KeyID {
	return verify.Certified{Issuer: i.Issuer, Subject: i.Subject}.ID()
}

func (c *change) removeHolder(named string, threshold int) error {
	ids, err := idsOf(c.holders.Root)
	if err != nil {
		return err
	}
	id, err := findKey(ids, named)
	if err != nil {
		return err
	}
	place := slices.Index(ids, id)
	c.holders.Root = slices.Delete(c.holders.Root, place, place+1)
	if threshold != 0 {
		c.holders.Threshold = threshold
	}
	return nil
}
