// Package verify decides what may be believed. It is pure: no I/O, no clock, no goroutine, no code of others.
//
// # The model
//
// A [Trust] document says which release keys a fleet believes and which bundle names each may sign. Out of a manifest's bytes and its
// signatures, [Trust.Manifest] makes a [Signed]; with the content its manifest commits to, [Signed.WithContent] makes it a [Verified].
// Nothing else makes either, and only a Verified may be applied. The mathematics of signatures is behind the port [Signatures];
// pkg/verify/cosign is the adapter.
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
//	  "keys": [{"id": "sha256:…", "publicKey": "-----BEGIN PUBLIC KEY-----…", "names": ["shop-*", "pos"]}],
//	  "floors": {"pos": 7}
//	}
//
// A key's id is the SHA-256 of its DER SubjectPublicKeyInfo. A pattern in names is a bundle name, a beginning followed by "*", or "*".
// Keys are ECDSA on P-256 (what cosign makes) or RSA of 2048, 3072 or 4096 bits, both with SHA-256. floors are security floors: counters below are refused for ever.
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
//   - V7 Security floors hold whatever the counters say.
//   - V8 One reading: documents with duplicate, unknown or differently cased keys, null, bytes that follow, invalid UTF-8 or deep nesting
//     are refused.
//   - V9 Time stops only a first apply.
//   - V10 No input makes it use memory or time without bound: at most 8 signatures against at most 32 keys.
//
// # Concurrency
//
// All values may be used from many goroutines as long as nobody changes a Trust or Counters meanwhile.
package verify
