package main

import (
	"errors"
	"fmt"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
)

func verifyBundle(o options, path string) error {
	message, err := read(path, bundle.MaxContentSize)
	if err != nil {
		return err
	}
	signature, err := read(o.bundle, bundle.MaxSignatureSize)
	if err != nil {
		return err
	}
	if o.key != "" {
		key, err := read(o.key, verify.MaxTrustSize)
		if err != nil {
			return err
		}
		return cosign.Verifier{}.Check(message, signature, string(key))
	}
	switch {
	case o.root == "":
		return errors.New("want --trusted-root or --key: nothing is fetched")
	case o.identity == "" || o.issuerID == "":
		return errors.New("want --certificate-identity and --certificate-oidc-issuer")
	}
	root, err := read(o.root, verify.MaxTrustSize)
	if err != nil {
		return err
	}
	who, err := cosign.Verifier{}.Identify(message, signature, root)
	if err != nil {
		return err
	}
	if want := (verify.Certified{Issuer: o.issuerID, Subject: o.identity}); who != want {
		return fmt.Errorf("signed by %s, want %s", who.ID(), want.ID())
	}
	return nil
}
