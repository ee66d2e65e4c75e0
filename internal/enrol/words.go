package enrol

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
)

// fingerprintSize is how much of the hash people compare, in bytes: 80 bits, for which nobody finds a second key.
const fingerprintSize = 10

// Fingerprint is a key's name for people: five words that can be read over a telephone (the proquints of arXiv:0901.4016 for the first 80 bits
// of the key's SHA-256), joined by dashes.
func Fingerprint(key ed25519.PublicKey) string {
	const consonants, vowels = "bdfghjklmnprstvz", "aiou"
	sum := sha256.Sum256(key)
	words := make([]string, 0, fingerprintSize/2)
	for i := 0; i < fingerprintSize; i += 2 {
		n := uint16(sum[i])<<8 | uint16(sum[i+1])
		words = append(words, string([]byte{
			consonants[n>>12], vowels[n>>10&3], consonants[n>>6&15], vowels[n>>4&3], consonants[n&15],
		}))
	}
	return strings.Join(words, "-")
}
