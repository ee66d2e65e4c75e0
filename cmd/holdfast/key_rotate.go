package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

func newKeyRotate(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate OLD NEW-PUBLIC-KEY",
		Short: "Put a new key in the place of an old one",
		Long: `Give a new release key the names of an old one and revoke the old one, or, with --until, let the old one sign new bundles until then.
With --root the new key holds the root in the old one's place; with --online it becomes the hub's: start the hub with both
(holdfast-hub run --online-key OLD --online-key NEW) before the change is published, and without the old one after. The change is a draft until
enough root keys have signed it and it is published; a rotated root is signed by the holders before and after.`,
		Example: "  holdfast key rotate 3f9a12 new.pub --until 2026-06-01\n  holdfast key rotate alice.pub alice2.pub --root",
		Args:    exactly("OLD", "NEW-PUBLIC-KEY"),
	}
	dir := dirFlag(cmd)
	root := cmd.Flags().Bool("root", false, "they are root keys")
	online := cmd.Flags().Bool("online", false, "they are the hub's online keys")
	until := cmd.Flags().String("until", "", "`time` until which the old release key may sign something new")
	cmd.MarkFlagsMutuallyExclusive("root", "online", "until")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		return d.change(*dir, func(c *change) error {
			switch {
			case *root:
				return replaceKey(c.holders.Root, args[0], args[1])
			case *online:
				return c.rotateOnline(args[0], args[1])
			}
			return c.rotate(args[0], args[1], *until)
		})
	}
	return cmd
}

func replaceKey(keys []string, named, file string) error {
	ids, err := idsOf(keys)
	if err != nil {
		return err
	}
	id, err := findKey(ids, named)
	if err != nil {
		return err
	}
	public, err := readLimited(file, verify.MaxTrustSize)
	if err != nil {
		return err
	}
	for i := range ids {
		if ids[i] == id {
			keys[i] = string(public)
		}
	}
	return nil
}

// rotateOnline gives the hub another key for everything it signs.
func (c *change) rotateOnline(named, file string) error {
	ids, err := idsOf(c.holders.Online)
	if err != nil {
		return err
	}
	if _, err := findKey(ids, named); err != nil {
		return err
	}
	public, err := readLimited(file, online.MaxFile)
	if err != nil {
		return err
	}
	if err := c.nameOnline(public); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (c *change) rotate(named, file, until string) error {
	end, err := instant("--until", until)
	if err != nil {
		return err
	}
	place, err := c.revoke(named)
	if err != nil {
		return err
	}
	if place < 0 {
		return &failure{code: exitUsage, message: "an identity has no key to rotate", hint: "holdfast key revoke, then holdfast key add"}
	}
	old := &c.trust.Keys[place]
	if end != nil {
		old.Revoked, old.NotAfter = false, end
	}
	return c.addKey(file, addition{names: old.Names})
}
