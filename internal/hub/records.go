package hub

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// SiteRecord is what SiteSubject holds: that the hub knows the site, and by which key.
type SiteRecord struct {
	Site      bundle.SiteID     `json:"site"`
	Labels    map[string]string `json:"labels,omitempty"`
	PublicKey string            `json:"publicKey"` // NATS user key ("U…")
	Key       ed25519.PublicKey `json:"key"`       // the same key, raw; the site's reports carry its signature
	Added     time.Time         `json:"added"`
	// Revision grows with each change, so that an older record never replaces a newer one in the view.
	Revision uint64      `json:"revision,omitempty"`
	Former   []FormerKey `json:"former,omitempty"` // shut out; what they signed in their time still counts
	Revoked  *Ruling     `json:"revoked,omitempty"`
	// Held is set while two copies of the site are alive: it is given nothing new. Settled is up to when somebody has looked at that.
	Held    *Ruling    `json:"held,omitempty"`
	Settled *time.Time `json:"settled,omitempty"`
	// Cordoned is set while rollouts give the site nothing new. What it was given goes on, and a person may still assign to it.
	Cordoned *Ruling `json:"cordoned,omitempty"`
	// Leaving is set while the site removes its workloads, Gone once it has left the fleet.
	Leaving *Ruling `json:"leaving,omitempty"`
	Gone    *Ruling `json:"gone,omitempty"`
}

// FormerKey is a key that was the site's until other hardware took its place.
type FormerKey struct {
	PublicKey string            `json:"publicKey"`
	Key       ed25519.PublicKey `json:"key"`
	Until     time.Time         `json:"until"`
}

// Ruling is a decision about a site: when, by whom and why.
type Ruling struct {
	At  time.Time `json:"at"`
	By  string    `json:"by"`
	Why string    `json:"why,omitempty"`
}

// CatalogEntry is what CatalogSubject holds: the last thing written of a pushed bundle, so that an entry proves the rest is there.
type CatalogEntry struct {
	Name     bundle.Name       `json:"name"`
	Version  bundle.Version    `json:"version"`
	Counter  bundle.Counter    `json:"counter"`
	Digest   bundle.Digest     `json:"digest"` // of the manifest
	Content  bundle.Digest     `json:"content"`
	Objects  int               `json:"objects"`
	Size     int64             `json:"size"`
	Wire     int64             `json:"wire"`
	Deltas   []api.BundleDelta `json:"deltas,omitempty"`
	Key      string            `json:"key"`
	Selector string            `json:"selector,omitempty"` // the manifest's target, for refusals at the hub
	Created  time.Time         `json:"created"`
	Pushed   time.Time         `json:"pushed"`
}

func (e CatalogEntry) ref() bundle.Ref { return bundle.Ref{Name: e.Name, Version: e.Version} }

// decodeRecord reads what the hub itself wrote, strictly: a store that holds something else is damaged or newer than this hub.
func decodeRecord(data []byte, record any) error {
	if len(data) > fleetsync.MaxMessage {
		return fmt.Errorf("%d bytes are more than a record may have (%d)", len(data), fleetsync.MaxMessage)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(record); err != nil {
		return err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("bytes after the record")
	}
	return nil
}

// changeRecord edits the record of a subject, or fresh where there is none, swaps it in and folds it into the view. what names it in errors.
func changeRecord[T any](ctx context.Context, h *Hub, subject, what string, fresh T, edit func(*T) error) error {
	for range assignTries {
		record := fresh
		message, err := h.store.Get(ctx, subject)
		switch {
		case errors.Is(err, fleetsync.ErrNotFound):
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		default:
			if err := decodeRecord(message.Data, &record); err != nil {
				return fmt.Errorf("%s: its record cannot be read: %w", what, err)
			}
		}
		if err := edit(&record); err != nil {
			return err
		}
		raw, err := json.Marshal(record)
		if err != nil {
			return fmt.Errorf("%s: encode: %w", what, err)
		}
		switch err := h.putIf(ctx, subject, raw, message.Sequence); {
		case errors.Is(err, stream.ErrConflict):
			continue
		case err != nil:
			return fmt.Errorf("%s: %w", what, err)
		}
		h.fold(stream.Message{Subject: subject, Data: raw, Time: h.cfg.Now()})
		return nil
	}
	return fmt.Errorf("%s: %w %d times", what, stream.ErrConflict, assignTries)
}
