package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Event is a Kubernetes Event about a Deployment, in its namespace.
type Event struct {
	Namespace, Deployment string
	Reason                string // one word
	Note                  string // cut at 1,024 bytes, the most the server takes
	Warning               bool
	At                    time.Time
	By                    string // which instance says so
}

// maxNote is how long the note of an Event may be, in bytes (k8s.io/api/events/v1).
const maxNote = 1024

// reporter is who says so.
const reporter = "holdfast.dev/edge"

// CreateEvent writes an Event of events.k8s.io/v1. It does not try again.
func (c *Conn) CreateEvent(ctx context.Context, e Event) error {
	type object map[string]any
	kind := "Normal"
	if e.Warning {
		kind = "Warning"
	}
	raw, err := json.Marshal(object{
		"apiVersion": "events.k8s.io/v1", "kind": "Event",
		"metadata":  object{"namespace": e.Namespace, "generateName": e.Deployment + "-"},
		"eventTime": e.At.UTC().Format("2006-01-02T15:04:05.000000Z"), "type": kind, "reason": e.Reason, "action": e.Reason,
		"note":                strings.ToValidUTF8(e.Note[:min(len(e.Note), maxNote)], ""),
		"reportingController": reporter, "reportingInstance": e.By,
		"regarding": object{"apiVersion": "apps/v1", "kind": "Deployment", "namespace": e.Namespace, "name": e.Deployment},
	})
	if err != nil {
		return fmt.Errorf("event: %w", err)
	}
	path := "/apis/events.k8s.io/v1/namespaces/" + url.PathEscape(e.Namespace) + "/events"
	_, err = c.do(ctx, request{method: http.MethodPost, path: path, accept: acceptMetadata, contentType: "application/json", body: bytes.NewReader(raw), size: int64(len(raw))})
	if err != nil {
		return fmt.Errorf("event in %s: %w", e.Namespace, err)
	}
	return nil
}
