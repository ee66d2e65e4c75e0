// Package enrol decides how a device becomes a site, and how the site's identity lives on: join tokens, the site's name, approval, renewal.
// It is pure: no I/O, no clock, no chance; hub and edge share it and carry out what it decides.
//
// A join token is made at the hub and travels in an enrolment file (File), the same one on every device of an image. A device makes a key,
// signs a Request with it and sends it; the hub answers with a Reply that is signed by the key the file pins and bound to the request's nonce.
// A Reply says pending, until somebody approves or rejects, or grants the site; asking again is how a device polls.
//
//	E1  A token's use is bound to the first key that took it. The same key asks as often as it likes and uses nothing more; another key
//	    needs another use. Whoever approves, approves a key.
//	E2  The site's name is what the token's rule makes of the device's facts, or a fixed one. Nothing in a request chooses a name, labels
//	    or approval. What a device claims is data to be shown.
//	E3  The hub knows the hash of a token, never the token. An unknown token and a wrong one are refused in the same words.
//	E4  A decision depends on what is recorded, not on whether an earlier answer arrived: a lost answer is given again.
//	E5  A key that is a site's stays that site's. A site's key changes only by a token made to replace it, and the old key is shut out then.
//	E6  A renewal gives the very same site and key, compared byte for byte, to whom proves to hold the key now; how long ago the old
//	    credential expired does not matter.
//	E7  What came from outside is bounded before it is parsed and decoded strictly.
package enrol
