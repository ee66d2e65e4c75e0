package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
)

func newBundleAttach(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "attach FILE --signature S",
		Short: "Put a signature made by the cosign tool into a bundle file",
		Long: `Put a signature made by the cosign tool into a bundle file. It must be a Sigstore bundle v0.3 over the manifest, by key

  holdfast bundle extract FILE --manifest manifest.json
  cosign sign-blob --key K --new-bundle-format --bundle S --tlog-upload=false manifest.json

or by identity, with its certificate, log entry and timestamp, for a fleet that let it (holdfast key add --issuer I --subject S):

  cosign sign-blob --new-bundle-format --bundle S manifest.json

Whether it verifies is checked only with --key or --trust, because only the fleet knows whom it trusts.`,
		Example: `  holdfast bundle attach shop-1.0.0.hfb --signature manifest.sigstore.json --key team.pub
  holdfast bundle attach shop-1.0.0.hfb --signature manifest.sigstore.json --trust fleet`,
		Args: exactly("FILE"),
	}
	signature := cmd.Flags().String("signature", "", "`file` with the Sigstore bundle")
	key := cmd.Flags().String("key", "", "public `key` that the signature must be by")
	trust := cmd.Flags().String("trust", "", "the fleet's `folder`: the signature must be one that it believes")
	out := cmd.Flags().StringP("output", "o", "", "`file` to write instead of FILE")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *signature == "" {
			return usagef(cmd, "--signature is needed")
		}
		if *key != "" && *trust != "" {
			return usagef(cmd, "want --key or --trust, and not both")
		}
		b, err := openBundle(args[0])
		if err != nil {
			return err
		}
		raw, err := readLimited(*signature, bundle.MaxSignatureSize)
		if err != nil {
			return err
		}
		raw = bytes.TrimSpace(raw)
		if err := checkAttached(b, *signature, raw, *key, *trust); err != nil {
			return err
		}
		path := args[0]
		if *out != "" {
			path = *out
		}
		for _, have := range b.file.Signatures {
			if bytes.Equal(have, raw) {
				d.sayf("%s has this signature already", b.manifest.Ref())
				return d.save(path, b.file)
			}
		}
		b.file.Signatures = append(b.file.Signatures, raw)
		if err := d.save(path, b.file); err != nil {
			return err
		}
		if !overManifest(raw, b.file.Manifest) {
			d.sayf("warning: %s is over other bytes than this manifest: nobody will believe it", *signature)
		}
		d.sayf("%s has %d %s now", b.manifest.Ref(), len(b.file.Signatures), plural(len(b.file.Signatures), "signature"))
		return nil
	}
	return cmd
}

// overManifest says whether a well-formed signature claims to be over the manifest. Digests other than SHA-256 are not looked at.
func overManifest(signature, manifest []byte) bool {
	var s struct {
		MessageSignature struct {
			MessageDigest struct {
				Algorithm string `json:"algorithm"`
				Digest    []byte `json:"digest"`
			} `json:"messageDigest"`
		} `json:"messageSignature"`
	}
	if json.Unmarshal(signature, &s) != nil {
		return false
	}
	claimed, sum := s.MessageSignature.MessageDigest, sha256.Sum256(manifest)
	return claimed.Algorithm != "SHA2_256" || bytes.Equal(claimed.Digest, sum[:])
}

func checkAttached(b *opened, file string, signature []byte, keyFile, dir string) error {
	if err := cosign.WellFormed(signature); err != nil {
		return &failure{code: exitFailed, message: fmt.Sprintf("%s: %s", file, err), hint: "make it with cosign sign-blob --new-bundle-format --bundle FILE", cause: err}
	}
	if keyFile == "" && dir == "" {
		return nil
	}
	var keys []string
	if keyFile != "" {
		keys = []string{keyFile}
	}
	trust, err := readTrust(dir, keys)
	if err != nil {
		return err
	}
	trust.Thresholds = nil // others may sign after this one
	if _, err := trust.Manifest(cosign.Verifier{}, b.file.Manifest, [][]byte{signature}); err != nil {
		f := &failure{code: exitRefused, message: fmt.Sprintf("%s: %s", file, err), hint: "sign the output of holdfast bundle extract --manifest, byte for byte", cause: err}
		var refused *verify.Refusal
		if errors.As(err, &refused) && refused.Reason != verify.BadSignature {
			f.hint = refused.Hint()
		}
		return f
	}
	return nil
}
