package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// verdict is what bundle verify found.
type verdict struct {
	Bundle  string        `json:"bundle"`
	Digest  bundle.Digest `json:"digest"`
	Counter uint64        `json:"counter"`
	Key     verify.KeyID  `json:"key"`
	Objects int           `json:"objects"`
	Expires *time.Time    `json:"expires,omitempty"`
}

func newBundleVerify(d *desk) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify FILE (--key K.pub | --trust DIR)",
		Short: "Check a bundle as a site would: signature, key, content",
		Long: `Check a bundle as hub and sites do: a trusted key has signed exactly this manifest and may sign this name, and the content is
the one the manifest commits to. Exit code 3 says that it is refused. Counters are a site's memory and are not checked here.`,
		Example: "  holdfast bundle verify shop-1.0.0.hfb --trust fleet",
		Args:    exactly("FILE"),
	}
	f := outputFlag(cmd)
	keys := cmd.Flags().StringArray("key", nil, "public `key` to trust for any name; may be repeated")
	trustFile := cmd.Flags().String("trust", "", "the fleet's `folder`, as holdfast init made it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if (len(*keys) == 0) == (*trustFile == "") {
			return usagef(cmd, "want --key or --trust, and not both")
		}
		trust, err := readTrust(*trustFile, *keys)
		if err != nil {
			return err
		}
		b, err := openBundle(args[0])
		if err != nil {
			return err
		}
		verified, err := b.verify(trust)
		if err != nil {
			return err
		}
		m := verified.Manifest()
		v := verdict{m.Ref().String(), verified.Digest(), uint64(m.Counter), verified.Key(), len(verified.Objects()), m.Expires}
		return d.show(*f, v, func() page { return verdictPage(v, d.now()) })
	}
	return cmd
}

func readTrust(path string, keys []string) (*verify.Trust, error) {
	if path != "" {
		p, err := tuf.ReadRepository(os.DirFS(fleetFolder{path}.path("")))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return verify.DecodeTrust(p.Fleet)
	}
	trust := &verify.Trust{Schema: verify.TrustSchema, Fleet: "desk"}
	for _, file := range keys {
		public, err := readLimited(file, verify.MaxTrustSize)
		if err != nil {
			return nil, err
		}
		if err := believe(trust, file, public, []string{"*"}); err != nil {
			return nil, err
		}
	}
	return trust, nil
}

// verify is a site's path: signature before content, content before objects.
func (o *opened) verify(trust *verify.Trust) (verify.Verified, error) {
	signed, err := trust.Manifest(cosign.Verifier{}, o.file.Manifest, o.file.Signatures)
	if err != nil {
		return verify.Verified{}, err
	}
	content, err := wire.Decompress(o.file.Content, signed.Manifest().Content.Size)
	if err != nil {
		return verify.Verified{}, &failure{code: exitRefused, message: "bundle " + o.manifest.Ref().String() + ": refused: " + err.Error(), hint: "it was damaged or changed after it was signed: fetch it again from where it was built", cause: err}
	}
	return signed.WithContent(content)
}

func verdictPage(v verdict, now time.Time) page {
	p := page{facts: []fact{
		{"Verified", cell{v.Bundle, good}},
		{"Signed by", text(string(v.Key))},
		{"Digest", text(string(v.Digest))},
		{"Counter", textf("%d", v.Counter)},
		{"Objects", textf("%d", v.Objects)},
	}}
	if v.Expires != nil {
		expires := cell{text: v.Expires.UTC().Format(time.RFC3339)}
		if !now.Before(*v.Expires) {
			expires = cell{expires.text + ": past, so no site will apply it for the first time", warn}
		}
		p.facts = append(p.facts, fact{"Expires", expires})
	}
	return p
}
