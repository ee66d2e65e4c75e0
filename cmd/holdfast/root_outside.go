package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/author"
)

func newRootExtract(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "extract DRAFT [--root OUT] [--targets OUT]",
		Short: "Take the bytes to sign out of a draft, for a key that never leaves its device",
		Long: `Take the exact bytes that are to be signed out of a draft, for a root key in a security module, a token or a cloud's key service: whatever makes
ECDSA P-256 signatures over SHA-256, or Ed25519, will do. A draft has a new root, new targets (the trust document) or both; root show says which.
"-" is stdout. Look at the draft first, where you sign (holdfast root show): nobody can read a change from these bytes.`,
		Example: `  holdfast root extract draft.json --root root.bin --targets targets.bin
  cosign sign-blob --key awskms:///alias/holdfast-root --tlog-upload=false --output-signature root.sig root.bin
  openssl dgst -sha256 -engine pkcs11 -keyform engine -sign 'pkcs11:object=root' -out targets.sig targets.bin
  holdfast root attach draft.json --key alice.pub --signature root.sig --signature targets.sig`,
		Args: exactly("DRAFT"),
	}
	root := cmd.Flags().String("root", "", "`file` for the new root's bytes")
	targets := cmd.Flags().String("targets", "", "`file` for the new targets' bytes")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *root == "" && *targets == "" {
			return usagef(cmd, "nothing to extract: give --root or --targets")
		}
		draft, err := readDraft(args[0])
		if err != nil {
			return err
		}
		rootBytes, targetsBytes, err := draft.Payloads()
		if err != nil {
			return err
		}
		for _, part := range []struct {
			name, out string
			raw       []byte
		}{{"root", *root, rootBytes}, {"targets", *targets, targetsBytes}} {
			switch {
			case part.out == "":
			case part.raw == nil:
				return &failure{code: exitNotFound, message: fmt.Sprintf("%s: the %s stays as it is: there is nothing to sign", args[0], part.name), hint: "holdfast root show " + args[0]}
			default:
				if err := d.writeWhole(part.out, part.raw, 0o644); err != nil {
					return err
				}
			}
		}
		return nil
	}
	return cmd
}

func newRootAttach(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach DRAFT --key K --signature S",
		Short: "Put signatures made elsewhere into a draft",
		Long: `Put signatures into a draft that a root key made elsewhere, over what holdfast root extract gave out: each a file with the signature, in base64 or
not. Give all that the key has to sign at once, in any order. A signature that is not by the key over this very draft is refused.`,
		Example: "  holdfast root attach draft.json --key alice.pub --signature root.sig --signature targets.sig",
		Args:    exactly("DRAFT"),
	}
	keyFile := cmd.Flags().String("key", "", "public `key` that signed")
	files := cmd.Flags().StringArray("signature", nil, "`file` with a signature; may be repeated")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *keyFile == "" || len(*files) == 0 {
			return usagef(cmd, "--key and --signature are needed")
		}
		draft, err := readDraft(args[0])
		if err != nil {
			return err
		}
		public, err := readLimited(*keyFile, verify.MaxTrustSize)
		if err != nil {
			return err
		}
		var signatures [][]byte
		for _, file := range *files {
			s, err := readLimited(file, author.MaxSignature)
			if err != nil {
				return err
			}
			signatures = append(signatures, s)
		}
		added, err := draft.Attach(string(public), signatures...)
		switch {
		case errors.Is(err, author.ErrNotHolder):
			return &failure{code: exitRefused, message: *keyFile + ": " + err.Error(), cause: err}
		case errors.Is(err, author.ErrNoSignature):
			return &failure{code: exitRefused, message: args[0] + ": " + err.Error(), hint: "sign the output of holdfast root extract, byte for byte, and give the signature of each part", cause: err}
		case err != nil:
			return err
		}
		return d.signed(args[0], draft, added)
	}
	return cmd
}
