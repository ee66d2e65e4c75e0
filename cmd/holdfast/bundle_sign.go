package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
)

func newBundleSign(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sign FILE --key K",
		Short: "Sign a bundle with a release key",
		Long: `Sign a bundle's manifest, which commits to its content, with a private key in cosign's format. The signature is a Sigstore
bundle v0.3 that cosign verify-blob accepts too. It is written into FILE, or with -o into another file. Signing again with a key
that has signed already changes nothing. The password comes from COSIGN_PASSWORD or is asked on a terminal.`,
		Example: "  holdfast bundle sign shop-1.0.0.hfb --key release.key",
		Args:    exactly("FILE"),
	}
	key := cmd.Flags().String("key", "", "private `key` file")
	out := cmd.Flags().StringP("output", "o", "", "`file` to write instead of FILE")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *key == "" {
			return usagef(cmd, "--key is needed")
		}
		if *out == "" {
			*out = args[0]
		}
		b, err := openBundle(args[0])
		if err != nil {
			return err
		}
		// Nobody should put a name to a content that is not what the manifest says.
		if _, _, err := b.content(); err != nil {
			return err
		}
		return d.sign(b, *key, *out)
	}
	return cmd
}

// sign adds a signature by the key to a bundle, unless it has one, and writes it to out.
func (d *desk) sign(b *opened, keyFile, out string) error {
	key, err := sign.ReadKey(keyFile)
	if err != nil {
		return err
	}
	password, err := d.password("Password of "+keyFile, false)
	if err != nil {
		return err
	}
	public, err := sign.PublicKey(key, password)
	if errors.Is(err, sign.ErrPassword) {
		return withHint(err, "set "+passwordVariable+" to the password the key was made with")
	} else if err != nil {
		return err
	}
	_, id, err := verify.ParseKey(string(public))
	if err != nil {
		return err
	}
	if signedBy(b, string(public)) {
		d.sayf("%s is signed by %s already", b.manifest.Ref(), id)
		return d.save(out, b.file)
	}
	signature, err := sign.Sign(b.file.Manifest, key, password)
	if err != nil {
		return err
	}
	b.file.Signatures = append(b.file.Signatures, signature)
	if err := d.save(out, b.file); err != nil {
		return err
	}
	d.sayf("%s signed by %s", b.manifest.Ref(), id)
	return nil
}

func signedBy(b *opened, publicPEM string) bool {
	for _, signature := range b.file.Signatures {
		if (cosign.Verifier{}).Check(b.file.Manifest, signature, publicPEM) == nil {
			return true
		}
	}
	return false
}
