package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/wire"
)

func newBundle(d *desk) *cobra.Command {
	return group("bundle", "Build, sign, check, compare and publish bundles",
		newBundleBuild(d), newBundleSign(d), newBundleAttach(d), newBundleVerify(d), newBundleInspect(d), newBundleExtract(d),
		newBundleRender(d), newBundleDiff(d), newBundlePush(d), newBundleList(d), newBundlePromote(d))
}

// opened is a bundle file taken apart. Nothing of it is verified.
type opened struct {
	path     string
	file     *bundle.File
	manifest *bundle.Manifest
}

func openBundle(path string) (*opened, error) {
	raw, err := readLimited(path, api.MaxFile)
	if err != nil {
		return nil, err
	}
	file, err := bundle.DecodeFile(raw)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", path, err), "holdfast bundle build makes bundle files")
	}
	manifest, err := bundle.DecodeManifest(file.Manifest)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &opened{path, file, manifest}, nil
}

// content unpacks the content and compares it with what the manifest commits to.
func (o *opened) content() ([]byte, []bundle.Object, error) {
	content, err := wire.Decompress(o.file.Content, o.manifest.Content.Size)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.path, err)
	}
	objects, err := bundle.DecodeContent(content, o.manifest.Content)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", o.path, err)
	}
	return content, objects, nil
}

// save writes a bundle file with one more signature.
func (d *desk) save(path string, file *bundle.File) error {
	raw, err := bundle.EncodeFile(file)
	if err != nil {
		return err
	}
	return d.writeWhole(path, raw, 0o644)
}
