package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
)

// addition is what key add was told.
type addition struct {
	names               []string
	notBefore, notAfter string
	root                bool
	threshold           int
	issuer, subject     string
	sigstoreRoot        string
}

func newKeyAdd(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "add [PUBLIC-KEY]",
		Short: "Let a key or an identity release bundles, or a key hold the root",
		Long: `Let a release key sign bundles whose names match --names, or, with --root, let a key hold the root of trust. With --issuer and --subject an
identity is added instead of a key: whoever that issuer knows by that subject may sign without a key of their own, judged offline against
--sigstore-root, a Sigstore trusted_root.json that becomes part of the trust document.

The change is a draft: nothing counts before enough root keys have signed it and it is published.`,
		Example: `  holdfast key add team.pub --names 'shop-*' --not-after 2027-01-01
  holdfast key add --issuer https://accounts.example --subject ci@acme.example --sigstore-root trusted_root.json
  holdfast key add carol.pub --root --root-threshold 2`,
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 1 {
			return usagef(cmd, "key add takes one public key, got %d arguments", len(args))
		}
		return nil
	}
	var a addition
	dir := dirFlag(cmd)
	cmd.Flags().StringArrayVar(&a.names, "names", []string{"*"}, "`pattern` of bundle names; may be repeated")
	cmd.Flags().StringVar(&a.notBefore, "not-before", "", "`time` from which what it signed may be accepted")
	cmd.Flags().StringVar(&a.notAfter, "not-after", "", "`time` after which nothing new by it is accepted")
	cmd.Flags().BoolVar(&a.root, "root", false, "it holds the root of trust, instead of releasing bundles")
	cmd.Flags().IntVar(&a.threshold, "root-threshold", 0, "with --root: how many root keys must sign from now on; 0 leaves it")
	cmd.Flags().StringVar(&a.issuer, "issuer", "", "`URL` that knows the identity")
	cmd.Flags().StringVar(&a.subject, "subject", "", "`name` of the identity: an e-mail address or a URI, with at most one *")
	cmd.Flags().StringVar(&a.sigstoreRoot, "sigstore-root", "", "trusted_root.json `file` with the authorities for identities")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		identity := a.issuer != "" || a.subject != ""
		if identity == (len(args) == 1) {
			return usagef(cmd, "want a public key, or --issuer and --subject")
		}
		if identity && a.root {
			return usagef(cmd, "only keys hold the root")
		}
		return d.change(*dir, func(c *change) error {
			switch {
			case identity:
				return c.addIdentity(a)
			case a.root:
				return c.addHolder(args[0], a.threshold)
			}
			return c.addKey(args[0], a)
		})
	}
	return cmd
}

func (c *change) addKey(file string, a addition) error {
	public, err := readLimited(file, verify.MaxTrustSize)
	if err != nil {
		return err
	}
	if err := believe(c.trust, file, public, a.names); err != nil {
		return err
	}
	key := &c.trust.Keys[len(c.trust.Keys)-1]
	key.NotBefore, key.NotAfter, err = window(a.notBefore, a.notAfter)
	return err
}

func (c *change) addIdentity(a addition) error {
	i := verify.Identity{Issuer: a.issuer, Subject: a.subject, Names: a.names}
	var err error
	if i.NotBefore, i.NotAfter, err = window(a.notBefore, a.notAfter); err != nil {
		return err
	}
	if a.sigstoreRoot != "" {
		if c.trust.SigstoreRoot, err = readLimited(a.sigstoreRoot, verify.MaxTrustSize); err != nil {
			return err
		}
	}
	c.trust.Identities = append(c.trust.Identities, i)
	return nil
}

func (c *change) addHolder(file string, threshold int) error {
	public, err := readLimited(file, verify.MaxTrustSize)
	if err != nil {
		return err
	}
	c.holders.Root = append(c.holders.Root, string(public))
	if threshold != 0 {
		c.holders.Threshold = threshold
	}
	if _, err := idsOf(c.holders.Root); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}
