package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newBundleExtract(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "extract FILE [--manifest OUT] [--signature OUT] [--content OUT]",
		Short: "Take the parts out of a bundle file",
		Long: `Take the parts out of a bundle file, for other tools: the exact manifest bytes that are signed, a signature (a Sigstore bundle
v0.3), and the content, one object a line. "-" is stdout. With several signatures, --index chooses one.`,
		Example: `  holdfast bundle extract shop.hfb --manifest manifest.json --signature manifest.sigstore.json
  cosign verify-blob --key release.pub --bundle manifest.sigstore.json --new-bundle-format --insecure-ignore-tlog manifest.json`,
		Args: exactly("FILE"),
	}
	manifest := cmd.Flags().String("manifest", "", "`file` for the manifest")
	signature := cmd.Flags().String("signature", "", "`file` for the signature")
	content := cmd.Flags().String("content", "", "`file` for the content")
	index := cmd.Flags().Int("index", 1, "which signature, from 1")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *manifest == "" && *signature == "" && *content == "" {
			return usagef(cmd, "nothing to extract: give --manifest, --signature or --content")
		}
		b, err := openBundle(args[0])
		if err != nil {
			return err
		}
		if *manifest != "" {
			if err := d.writeWhole(*manifest, b.file.Manifest, 0o644); err != nil {
				return err
			}
		}
		if *signature != "" {
			if *index < 1 || *index > len(b.file.Signatures) {
				return &failure{code: exitNotFound, message: fmt.Sprintf("%s: no signature %d; it has %d", args[0], *index, len(b.file.Signatures)), hint: "sign it: holdfast bundle sign FILE --key cosign.key"}
			}
			if err := d.writeWhole(*signature, b.file.Signatures[*index-1], 0o644); err != nil {
				return err
			}
		}
		if *content == "" {
			return nil
		}
		plain, _, err := b.content()
		if err != nil {
			return err
		}
		return d.writeWhole(*content, plain, 0o644)
	}
	return cmd
}
