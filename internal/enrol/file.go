package enrol

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
)

// FileSchema is the schema identifier of a File.
const FileSchema = "holdfast.dev/enrol/v1"

// MaxFile is the most bytes an enrolment file may have.
const MaxFile = 1 << 20

// File is the enrolment file: what a device needs to become a site, and whom it believes, so that nothing is trusted on first use. The same
// file works on every device of an image. It holds a secret for as long as the token lives.
type File struct {
	Schema string   `json:"schema"`
	Fleet  string   `json:"fleet"`
	Hubs   []string `json:"hubs"` // https URLs, tried in order
	CA     string   `json:"ca"`   // PEM; certificates of the hub that are not by this CA are refused
	Token  string   `json:"token"`
	// Name tells the device which facts to read. The rule that counts is the token's, at the hub.
	Name  Rule            `json:"siteName"`
	Trust json.RawMessage `json:"trust"` // tuf.Metadata, encoded: whose bundles and which hub are believed
}

// DecodeFile reads an enrolment file strictly.
func DecodeFile(raw []byte) (*File, error) {
	if len(raw) > MaxFile {
		return nil, fmt.Errorf("enrolment file: %d bytes are more than %d", len(raw), MaxFile)
	}
	var f File
	if err := decodeStrict(raw, &f); err != nil {
		return nil, fmt.Errorf("enrolment file: %w", err)
	}
	if f.Schema != FileSchema {
		return nil, fmt.Errorf("enrolment file: schema %.80q: want %s", f.Schema, FileSchema)
	}
	if len(f.Hubs) == 0 {
		return nil, errors.New("enrolment file: hubs: no address")
	}
	for _, hub := range f.Hubs {
		if u, err := url.Parse(hub); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, fmt.Errorf("enrolment file: hub %.200q: want https://host:port", hub)
		}
	}
	if _, err := ParseRule(string(f.Name)); err != nil {
		return nil, fmt.Errorf("enrolment file: %w", err)
	}
	if f.CA == "" || f.Token == "" || len(f.Trust) == 0 {
		return nil, errors.New("enrolment file: want ca, token and trust")
	}
	return &f, nil
}
