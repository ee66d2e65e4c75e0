package sync

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxMessage is the most bytes a message on the bus may have.
const MaxMessage = 768 << 10

// Envelope carries a signed message. The signature is Ed25519 (RFC 8032) over
// "holdfast.dev\n" + Type + "\n" + Payload, with Payload the exact bytes.
type Envelope struct {
	Type      string `json:"type"`
	Payload   []byte `json:"payload"`
	Signature []byte `json:"signature"`
}

// ErrForged says that a message is not signed by whom it should be.
var ErrForged = errors.New("the signature is not by the expected key")

// Seal encodes payload as JSON, signs it as a message of the type and encodes the envelope.
func Seal(messageType string, payload any, key ed25519.PrivateKey) ([]byte, error) {
	body, err := json.Marshal(payload)
	if err != nil {
		return nil, fmt.Errorf("%s: encode: %w", messageType, err)
	}
	return sealBytes(messageType, body, key)
}

func sealBytes(messageType string, body []byte, key ed25519.PrivateKey) ([]byte, error) {
	sealed, err := json.Marshal(Envelope{messageType, body, ed25519.Sign(key, signedBytes(messageType, body))})
	if err != nil {
		return nil, fmt.Errorf("%s: encode: %w", messageType, err)
	}
	if len(sealed) > MaxMessage {
		return nil, fmt.Errorf("%s: %d bytes are more than a message may have (%d)", messageType, len(sealed), MaxMessage)
	}
	return sealed, nil
}

// Open checks that sealed is a message of the type signed by key and decodes its payload into value: strictly, but for reports and answers, to which
// newer versions add fields (F26). An order with a field that its reader does not know is refused: what the field asks for would not be done.
func Open(messageType string, sealed []byte, key ed25519.PublicKey, value any) error {
	if len(sealed) > MaxMessage {
		return fmt.Errorf("%s: %d bytes are more than a message may have (%d)", messageType, len(sealed), MaxMessage)
	}
	var envelope Envelope
	if err := decodeStrict(sealed, &envelope); err != nil {
		return fmt.Errorf("%s: envelope: %w", messageType, err)
	}
	plain, packed := plainType(envelope.Type)
	if plain != messageType {
		return fmt.Errorf("%s: the message is of type %.40q", messageType, envelope.Type)
	}
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, signedBytes(envelope.Type, envelope.Payload), envelope.Signature) {
		return fmt.Errorf("%s: %w", messageType, ErrForged)
	}
	payload := envelope.Payload
	if packed {
		var err error
		if payload, err = unpack(payload); err != nil {
			return fmt.Errorf("%s: %w", messageType, err)
		}
	}
	decode := decodeStrict
	switch messageType {
	case TypeState, TypeEvents, TypeHello, TypeAck, TypeFresh:
		decode = decodeKnown
	}
	if err := decode(payload, value); err != nil {
		return fmt.Errorf("%s: %w", messageType, err)
	}
	return nil
}

// decodeKnown passes over unknown fields, and refuses anything after the value. Callers have bounded the size.
func decodeKnown(raw []byte, value any) error { return json.Unmarshal(raw, value) }

// OpenBy is Open where one of several keys may have signed.
func OpenBy(messageType string, sealed []byte, keys []ed25519.PublicKey, value any) error {
	err := fmt.Errorf("%s: %w", messageType, ErrForged)
	for _, key := range keys {
		if err = Open(messageType, sealed, key, value); !errors.Is(err, ErrForged) {
			return err
		}
	}
	return err
}

func signedBytes(messageType string, payload []byte) []byte {
	return append([]byte("holdfast.dev\n"+messageType+"\n"), payload...)
}

// decodeStrict refuses unknown fields and anything after the value. Callers have bounded the size.
func decodeStrict(raw []byte, value any) error {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(value); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the message")
	}
	return nil
}
