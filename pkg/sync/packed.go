package sync

import (
	"bytes"
	"compress/flate"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Packed is the one way in which a report may be compressed: raw DEFLATE (RFC 1951) of its payload. The type of such an envelope ends with packedSuffix, and the signature
// is over that type and the compressed bytes as they are sent, so that nothing is unpacked that the site did not sign. A hub that reads it says so in Fresh.Reads; any
// other gets plain reports.
const Packed = "deflate"

const packedSuffix = "+" + Packed

// MaxUnpacked is the most bytes that a compressed payload may come to: a plain one has no more either.
const MaxUnpacked = MaxMessage

// ErrTooLarge says that a compressed payload comes to more than MaxUnpacked bytes.
var ErrTooLarge = errors.New("the payload unpacks to more than a message may have")

// SealPacked is Seal for a report that may go compressed. It does where that makes it smaller.
func SealPacked(messageType string, payload any, key ed25519.PrivateKey) ([]byte, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("%s: encode: %w", messageType, err)
	}
	if packed := pack(body); len(packed)+len(packedSuffix) < len(body) {
		return sealBytes(messageType+packedSuffix, packed, key)
	}
	return sealBytes(messageType, body, key)
}

func pack(body []byte) []byte {
	var packed bytes.Buffer
	w, _ := flate.NewWriter(&packed, flate.DefaultCompression) // the level is one there is
	_, _ = w.Write(body)                                       // into memory
	_ = w.Close()
	return packed.Bytes()
}

// unpack gives the plain payload of an envelope whose signature was checked.
func unpack(payload []byte) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(payload)), MaxUnpacked+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("unpack: %w", err)
	case len(body) > MaxUnpacked:
		return nil, ErrTooLarge
	}
	return body, nil
}

// mayBePacked says whether a message of the type may come compressed.
func mayBePacked(messageType string) bool {
	return messageType == TypeState || messageType == TypeEvents
}

// plainType is what an envelope's type says without how it is packed.
func plainType(messageType string) (plain string, packed bool) {
	if plain, packed = strings.CutSuffix(messageType, packedSuffix); packed && mayBePacked(plain) {
		return plain, true
	}
	return messageType, false
}
