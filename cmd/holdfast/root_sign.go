package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

func newRootSign(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign DRAFT --key K",
		Short: "Sign a change of the root of trust with one root key",
		Long: `Sign a draft with one root key: everything in it that the key may sign. The draft can be signed on several machines, one after the other;
it holds all that is needed and nothing secret. What it would change is shown first: sign only what you expected (holdfast root show).
Signing again with a key that has signed already changes nothing. A key that never leaves its device signs by holdfast root extract and attach.`,
		Example: "  holdfast root sign fleet/draft.json --key alice.key",
		Args:    exactly("DRAFT"),
	}
	keyFile := cmd.Flags().String("key", "", "private `key` file in cosign's format")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *keyFile == "" {
			return usagef(cmd, "--key is needed")
		}
		draft, err := readDraft(args[0])
		if err != nil {
			return err
		}
		added, err := d.signDraft(draft, *keyFile)
		if err != nil {
			return err
		}
		return d.signed(args[0], draft, added)
	}
	return cmd
}

// signed keeps a draft after a holder signed it.
func (d *desk) signed(path string, draft *author.Draft, added bool) error {
	if !added {
		d.sayf("%s is signed by this key already", path)
		return d.sayNext(path, draft)
	}
	return d.saveDraft(path, draft)
}

func readDraft(path string) (*author.Draft, error) {
	raw, err := readLimited(path, author.MaxDraft)
	if err != nil {
		return nil, err
	}
	draft, err := author.DecodeDraft(raw)
	if err != nil {
		return nil, &failure{code: exitFailed, message: path + ": " + err.Error(), cause: err}
	}
	return draft, nil
}

// signDraft signs with a key file and says whether that added anything.
func (d *desk) signDraft(draft *author.Draft, keyFile string) (bool, error) {
	key, err := sign.ReadKey(keyFile)
	if err != nil {
		return false, err
	}
	password, err := d.password("Password of "+keyFile, false)
	if err != nil {
		return false, err
	}
	signer, err := sign.Open(key, password)
	if errors.Is(err, sign.ErrPassword) {
		return false, withHint(err, "set "+passwordVariable+" to the password the key was made with")
	} else if err != nil {
		return false, err
	}
	added, err := draft.Sign(signer)
	if errors.Is(err, author.ErrNotHolder) {
		return false, &failure{code: exitRefused, message: keyFile + ": " + err.Error(), cause: err}
	}
	return added, err
}
