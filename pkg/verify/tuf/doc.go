// Package tuf is the fleet's root of trust: The Update Framework over go-tuf/v2. It makes a verify.Trust out of metadata that anybody may
// have carried – the hub, a USB stick – and an enemy may have kept back, mixed or forged.
//
// # The roles
//
//	root       k of n offline keys. Says which keys hold the roles. Version N+1 is signed by the holders of N and of N+1.
//	targets    the same k of n offline keys. Commits to one file, fleet.json: the verify.Trust document, exactly as its bytes are.
//	snapshot   the hub's online key: which targets are the newest.
//	timestamp  the hub's online key, for days only: which snapshot is the newest.
//
// So whoever steals the hub can keep news back until the targets expire, and nothing else: which keys may release what is not the hub's to say.
//
// # Names
//
// A [Source] gives metadata by the subject it has on the bus:
//
//	hf.trust.root.<version>        hf.trust.targets.<version>     hf.trust.snapshot.<version>
//	hf.trust.timestamp.latest      hf.trust.fleet.<sha256 of fleet.json in hex>
//
// On disk the same files lie as any TUF client expects them ([Path]): metadata/<version>.root.json, metadata/timestamp.json, …,
// targets/<sha256>.fleet.json.
//
// # What the caller keeps
//
// [Metadata] is a value. The caller stores what [Client.Refresh] returns, whether or not it failed, in one transaction ([Encode]), and after a restart
// gets its Trust back by [Load], which verifies it all again but asks for no time.
//
// # Guarantees
//
//   - U1 The chain of roots is followed from the one that is trusted, one version at a time, each signed by the threshold of both its
//     predecessor and itself; at most [MaxRotations] in one refresh ([ErrChainTooLong], and the next refresh goes on). Only the last must be unexpired.
//   - U2 Versions of timestamp, snapshot and targets never go back, nor do those of targets when the online keys change.
//   - U3 A signature counts once, whatever it is called and however often it stands there; a threshold below 1 is refused.
//   - U4 Sizes are checked before anything is parsed, and every document has one reading: no duplicate keys, no null, nothing after it.
//   - U5 Time is an input. Expiry makes a refresh fail and takes nothing away: what was trusted stays trusted, and so do the sites' contents.
//   - U6 Roots that were seen stay: a refresh that fails after them returns them, and the older rest that goes on counting under the root it came with.
//   - U7 A panic in the libraries is an error.
package tuf
