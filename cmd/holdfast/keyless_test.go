package main

import (
	"os"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/holdfast-fleet/holdfast/test/keyless"
)

// ourSigstore are the authorities of all scripts.
var ourSigstore = sync.OnceValues(keyless.New)

// certify is "certify SUBJECT ISSUER FILE SIGNATURE ROOT": somebody the issuer knows by the subject signs a file without a key, as the cosign tool
// would do it for them, and the authorities' trusted root is written too.
func certify(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 5 {
		ts.Fatalf("usage: certify SUBJECT ISSUER FILE SIGNATURE ROOT")
	}
	authorities, err := ourSigstore()
	ts.Check(err)
	signature, err := authorities.Sign(args[0], args[1], []byte(ts.ReadFile(args[2])))
	ts.Check(err)
	root, err := authorities.TrustedRoot()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[3]), signature, 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[4]), root, 0o600))
}
