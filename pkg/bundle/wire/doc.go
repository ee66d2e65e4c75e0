// Package wire makes content small for the link: compressed as a whole, or as a delta against content that the site already has.
//
// Nothing here is trusted. A delta or a compressed content is believed only after its result has the digest that a verified manifest commits to;
// until then this package promises bounded time and memory, and nothing else.
//
// # Compressed content
//
// One zstd frame (RFC 8878) without a dictionary.
//
// # Delta
//
// One zstd frame whose plain text is four parts, each a uvarint length (encoding/binary) and that many bytes:
//
//	runs      uvarints: how many literal bytes come next
//	copies    uvarints: how many bytes of the older content come after them
//	moves     varints:  where that copy begins, counted from the end of the copy before (the first: from byte 0)
//	literals  bytes
//
// The runs, copies and moves are as many as each other; step n takes the n-th of each. Every step makes at least one byte. All parts are used up exactly
// when the result is complete. Kept apart, the parts compress better than interleaved, because a change that occurs in ten places has
// ten equal runs, ten equal copies and ten equal moves. See docs/adr/0003-delta.md for figures and for why this is not zstd's own dictionary.
//
// # Guarantees
//
//   - W1 Decompress returns exactly the declared number of bytes or an error, and never holds more than that and the frame's small tables.
//   - W2 ApplyDelta returns exactly the declared number of bytes or an error. It holds the result and the delta's plain text, which may not be longer than
//     the result and MaxObjectSize together.
//   - W3 Every input gives a result or an error: no panic, no loop without end.
//   - W4 The same input gives the same bytes.
package wire
