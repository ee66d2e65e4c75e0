// Command conformance shows our updater and our verifier to the public conformance suites, in their own command lines. It is for tests alone.
//
// For github.com/theupdateframework/tuf-conformance:
//
//	conformance --metadata-dir DIR init ROOT
//	conformance --metadata-dir DIR --metadata-url URL refresh
//	conformance --metadata-dir DIR --metadata-url URL --target-name NAME --target-base-url URL --target-dir DIR download
//
// This is go-tuf's updater behind the gate that package tuf puts before it (sizes, one reading), over HTTP, with any target instead of fleet.json alone.
// FAKETIME=+<n>d moves its clock, as faketime does for the suite.
//
// For github.com/sigstore/sigstore-conformance:
//
//	conformance verify-bundle --bundle FILE --certificate-identity NAME --certificate-oidc-issuer URL --trusted-root FILE FILE
//	conformance verify-bundle --bundle FILE --key PUBLIC-KEY FILE
//
// This is exactly verify.Signatures as edge and hub use it: message signatures in bundles v0.3 only, so DSSE envelopes, older bundles and bare
// digests are refused, and nothing is fetched when no trusted root is given.
//
// The exit code is 0 for success and 1 for everything else, with the reason on stderr.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	if err := run(context.Background(), os.Args[1:], time.Now(), os.Getenv("FAKETIME")); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// options are the flags of all commands.
type options struct {
	metadataDir, metadataURL              string
	targetName, targetBaseURL, targetDir  string
	bundle, key, root, identity, issuerID string
}

func (o *options) flags() *flag.FlagSet {
	f := flag.NewFlagSet("conformance", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.metadataDir, "metadata-dir", "", "")
	f.StringVar(&o.metadataURL, "metadata-url", "", "")
	f.StringVar(&o.targetName, "target-name", "", "")
	f.StringVar(&o.targetBaseURL, "target-base-url", "", "")
	f.StringVar(&o.targetDir, "target-dir", "", "")
	f.StringVar(&o.bundle, "bundle", "", "")
	f.StringVar(&o.key, "key", "", "")
	f.StringVar(&o.root, "trusted-root", "", "")
	f.StringVar(&o.identity, "certificate-identity", "", "")
	f.StringVar(&o.issuerID, "certificate-oidc-issuer", "", "")
	return f
}

func run(ctx context.Context, args []string, now time.Time, fakeTime string) error {
	var o options
	flags := o.flags()
	if err := flags.Parse(args); err != nil {
		return err
	}
	command := flags.Arg(0)
	if command == "" {
		return errors.New("want init, refresh, download or verify-bundle")
	}
	if err := flags.Parse(flags.Args()[1:]); err != nil { // flags may stand on either side of the command
		return err
	}
	at, err := moved(now, fakeTime)
	if err != nil {
		return err
	}
	switch command {
	case "init":
		return initialise(o, flags.Arg(0))
	case "refresh":
		_, err := refresh(ctx, o, at)
		return err
	case "download":
		return download(ctx, o, at)
	case "verify-bundle":
		return verifyBundle(o, flags.Arg(0))
	}
	return fmt.Errorf("unknown command %q", command)
}

// read reads a file of at most limit bytes.
func read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(raw)) > limit {
		err = fmt.Errorf("%s: larger than %d bytes", path, limit)
	}
	return raw, err
}
