package enrol

import (
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Message types of the envelopes.
const (
	TypeRequest = "enrol/v1"
	TypeReply   = "enrolled/v1"
	TypeRenewal = "renew/v1"
	TypeRenewed = "renewed/v1"
)

// MaxRequest is the most bytes a request or renewal may have.
const MaxRequest = 16 << 10

// NonceSize is the bytes of a device's nonce; it is written in hex.
const NonceSize = 16

// Request is a device's wish to be a site, signed by its key.
type Request struct {
	Token string            `json:"token"` // the secret
	Nonce string            `json:"nonce"` // new for every request
	Key   ed25519.PublicKey `json:"key"`
	Facts Facts             `json:"facts"`
}

// OpenRequest reads a sealed request: it is signed by the key it names.
func OpenRequest(sealed []byte) (Request, error) {
	var r Request
	if err := openOwn(TypeRequest, sealed, &r, func() ed25519.PublicKey { return r.Key }); err != nil {
		return Request{}, err
	}
	if err := checkNonce(r.Nonce); err != nil {
		return Request{}, malformed(err)
	}
	if err := r.Facts.check(); err != nil {
		return Request{}, malformed(err)
	}
	return r, nil
}

// openOwn opens a message that says itself by which key it is signed.
func openOwn(kind string, sealed []byte, into any, key func() ed25519.PublicKey) error {
	if len(sealed) > MaxRequest {
		return malformed(fmt.Errorf("%d bytes are more than a request may have (%d)", len(sealed), MaxRequest))
	}
	var envelope fleetsync.Envelope
	if err := decodeStrict(sealed, &envelope); err != nil {
		return malformed(err)
	}
	if err := decodeStrict(envelope.Payload, into); err != nil {
		return malformed(err)
	}
	named := append(ed25519.PublicKey(nil), key()...)
	switch err := fleetsync.Open(kind, sealed, named, into); {
	case errors.Is(err, fleetsync.ErrForged):
		return refuse(Forged, "the request is not signed by the key it names", "")
	case err != nil:
		return malformed(err)
	}
	if !named.Equal(key()) {
		return refuse(Forged, "the request names two keys", "")
	}
	return nil
}

func malformed(err error) error {
	return refuse(Malformed, "the request cannot be read: "+err.Error(), "")
}

func checkNonce(nonce string) error {
	if raw, err := hex.DecodeString(nonce); err != nil || len(raw) != NonceSize {
		return fmt.Errorf("nonce %.80q: want %d hex digits", nonce, 2*NonceSize)
	}
	return nil
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

// Status is where an enrolment stands.
type Status string

// The statuses.
const (
	Pending  Status = "pending"
	Approved Status = "approved"
	Rejected Status = "rejected"
)

// Reply is the hub's answer, signed by the key that the enrolment file pins and bound to the request.
type Reply struct {
	Nonce  string            `json:"nonce"`
	Key    ed25519.PublicKey `json:"key"`
	Status Status            `json:"status"`
	Site   bundle.SiteID     `json:"site"`
	Grant  *Grant            `json:"grant,omitempty"` // where approved
	Why    string            `json:"why,omitempty"`   // where rejected
}

// Grant is what a site needs besides its key and whom to believe, which do not come from the hub.
type Grant struct {
	Servers   []string `json:"servers"` // NATS URLs
	CA        string   `json:"ca"`      // PEM, of those
	JWT       string   `json:"jwt"`
	HeartBeat int      `json:"heartbeatSeconds"`
}

// MaxReply is the most bytes a reply may have.
const MaxReply = 256 << 10

// OpenReply reads the answer to a request: signed by the hub's key, bound to this request's nonce and key.
func OpenReply(sealed []byte, hub []ed25519.PublicKey, to Request) (Reply, error) {
	var r Reply
	if err := openPinned(TypeReply, sealed, hub, &r); err != nil {
		return Reply{}, err
	}
	if r.Nonce != to.Nonce || !to.Key.Equal(r.Key) {
		return Reply{}, refuse(Forged, "the hub's answer is to another request", "")
	}
	if _, err := bundle.ParseSiteID(string(r.Site)); err != nil {
		return Reply{}, refuse(Malformed, "the hub's answer: "+err.Error(), "")
	}
	switch {
	case r.Status == Approved && r.Grant == nil, r.Status != Approved && r.Status != Pending && r.Status != Rejected:
		return Reply{}, refuse(Malformed, fmt.Sprintf("the hub's answer is incomplete: status %.20q", r.Status), "")
	case r.Status == Approved:
		return r, CheckCredential(r.Grant.JWT, r.Site, r.Key)
	}
	return r, nil
}

func openPinned(kind string, sealed []byte, hub []ed25519.PublicKey, into any) error {
	if len(sealed) > MaxReply {
		return refuse(Malformed, fmt.Sprintf("the hub's answer: %d bytes are more than %d", len(sealed), MaxReply), "")
	}
	switch err := fleetsync.OpenBy(kind, sealed, hub, into); {
	case errors.Is(err, fleetsync.ErrForged):
		return refuse(Forged, "the hub's answer is not signed by the hub this device was given", "if the hub was set up anew, the device needs a new enrolment file")
	case err != nil:
		return refuse(Malformed, "the hub's answer: "+err.Error(), "")
	}
	return nil
}
