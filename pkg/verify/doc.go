// Package verify decides what may be believed. It is pure: no I/O, no clock, no goroutine, no code of others.
//
// # The model
//
// A [Trust] document says which release keys a fleet believes and which bundle names each may sign. Out of a manifest's bytes and its
// signatures, [Trust.Manifest] makes a [Signed]; with the content its manifest commits to, [Signed.WithContent] makes it a [Verified].
// Nothing else makes either, and only a Verified may be applied. The mathematics of signatures is behind the port [Signatures];
// pkg/verify/cosign is the adapter.
//
// A bundle may be signed by keys, by identities that a certificate authority vouched for, or both; one name may need several signers.
// What a site accepted once is believed again by [Trust.Accepted], whatever the document says of its keys meanwhile.
//
// Four questions are kept apart, because each has its own evidence:
//
//   - authentic? – [Trust.Manifest]: keys
//   - what I asked for, and meant for me? – [Signed.Answers], [Signed.For]: digest, name, version; labels, Kubernetes version
//   - not older than what I had? – [Counters.Check]: the highest release counter accepted, per bundle name
//   - still meant? – [Signed.FirstApplyAt]: time, and only before a first apply
//
// Every refusal is a [*Refusal] with one of the frozen [Reasons] and the evidence.
//
// # The trust document
//
//	{
//	  "schema": "holdfast.dev/trust/v1",
//	  "fleet": "acme",
//	  "keys": [{"id": "sha256:…", "publicKey": "-----BEGIN PUBLIC KEY-----…", "names": ["shop-*", "pos"],
//	            "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2027-01-01T00:00:00Z", "revoked": false}],
//	  "identities": [{"issuer": "https://accounts.example", "subject": "ci@acme.example", "names": ["*"]}],
//	  "sigstoreRoot": {…},
//	  "thresholds": {"pos": 2},
//	  "floors": {"pos": 7},
//	  "counterEpoch": 1,
//	  "online": {"assignment": ["U…"], "freshness": ["U…"]}
//	}
//
// A key's id is the SHA-256 of its DER SubjectPublicKeyInfo. A pattern in names is a bundle name, a beginning followed by "*", or "*".
// Keys are ECDSA on P-256 (what cosign makes) or RSA of 2048, 3072 or 4096 bits, both with SHA-256. An identity's subject may have one "*".
// sigstoreRoot is Sigstore's trusted_root.json: the only authorities, logs and timestamp authorities that count. thresholds are how
// many different signers a name needs, floors are security floors: counters below are never accepted again. Raising counterEpoch makes
// counters begin anew, which is how a counter that a thief drove up is undone; whoever raises it also sets floors. Everything after keys
// may be left out.
//
// # Guarantees
//
//   - V1 Fail closed: no key, no signature, an error or a panic of the verifier, the zero value of any type here – each is a refusal.
//   - V2 Sizes first: limits on manifest, signatures and content are checked before any byte is read.
//   - V3 Signature before parsing: a manifest is not decoded until a release key's signature over exactly its bytes has been checked.
//   - V4 A signed name counts only if a key that signed it may sign that name.
//   - V5 One digest commits to everything: the manifest's digest to the manifest, and with it size, digest and number of objects of the content.
//   - V6 Counters never go back: an older counter is refused, and so is another manifest under a counter that was seen. [Merge] and
//     [Counters.Advance] only raise.
//     A counter epoch that was seen is never left for a lower one, and a counter far above the last is refused.
//   - V7 Security floors hold for all that is new, whatever the counters say.
//   - V8 One reading: documents with duplicate, unknown or differently cased keys, null, bytes that follow, invalid UTF-8 or deep nesting
//     are refused.
//   - V9 Time stops only a first apply: expiry of a manifest as well as the window of a key.
//   - V10 No input makes it use memory or time without bound: at most 8 signatures against at most 32 keys and 32 identities.
//   - V11 A threshold counts different signers: neither a second signature by a key nor a second pattern that fits an identity adds one.
//   - V12 A revoked key signs nothing new, and its revocation stops nothing that a site accepted before.
//
// # Concurrency
//
// All values may be used from many goroutines as long as nobody changes a Trust or Counters meanwhile.
package verify
