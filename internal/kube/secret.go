package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/storekey"
)

// storeKeyField is the key of a Secret under which a ring is.
const storeKeyField = "store.key"

// StoreKey is a storekey.Source in a Secret. The installation makes the Secret, empty, so that the agent needs no right but to read and patch this one.
func (c *Conn) StoreKey(namespace, name string) storekey.Source {
	return &keySecret{conn: c, namespace: namespace, name: name}
}

type keySecret struct {
	conn            *Conn
	namespace, name string
	version         string // at the last Read; empty: there is none
}

// String is how the flag names it.
func (k *keySecret) String() string { return "secret:" + k.namespace + "/" + k.name }

func (k *keySecret) path() string {
	return "/api/v1/namespaces/" + url.PathEscape(k.namespace) + "/secrets"
}

type secretObject struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name            string `json:"name"`
		ResourceVersion string `json:"resourceVersion,omitempty"`
	} `json:"metadata"`
	Data map[string][]byte `json:"data"`
}

// Read implements storekey.Source.
func (k *keySecret) Read(ctx context.Context) (storekey.Ring, error) {
	k.version = ""
	body, err := k.conn.do(ctx, request{method: http.MethodGet, path: k.path() + "/" + url.PathEscape(k.name), accept: "application/json"})
	var refusal *apply.ServerError
	if errors.As(err, &refusal) && refusal.Code == http.StatusNotFound {
		return storekey.Ring{}, nil
	}
	if err != nil {
		return storekey.Ring{}, fmt.Errorf("store key %s: %w", k, err)
	}
	var found secretObject
	if err := json.Unmarshal(body, &found); err != nil {
		return storekey.Ring{}, fmt.Errorf("store key %s: the server's answer is no Secret", k) // what it is may be secret
	}
	k.version = found.Metadata.ResourceVersion
	ring, err := storekey.Parse(found.Data[storeKeyField])
	if err != nil {
		return ring, fmt.Errorf("%s: %w", k, err)
	}
	return ring, nil
}

// Write implements storekey.Source. Nothing of the Secret but the ring is touched.
func (k *keySecret) Write(ctx context.Context, ring storekey.Ring) error {
	in := secretObject{APIVersion: "v1", Kind: "Secret", Data: map[string][]byte{storeKeyField: ring.Encode()}}
	in.Metadata.Name, in.Metadata.ResourceVersion = k.name, k.version
	raw, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("store key %s: encode: %w", k, err)
	}
	r := request{method: http.MethodPost, path: k.path(), accept: acceptMetadata, contentType: "application/json", body: bytes.NewReader(raw), size: int64(len(raw))}
	if k.version != "" {
		r.method, r.path, r.contentType = http.MethodPatch, r.path+"/"+url.PathEscape(k.name), "application/merge-patch+json"
	}
	body, err := k.conn.do(ctx, r)
	var refusal *apply.ServerError
	switch {
	case errors.As(err, &refusal) && refusal.Code == http.StatusConflict:
		return fmt.Errorf("store key %s: %w", k, storekey.ErrChanged)
	case errors.As(err, &refusal) && (refusal.Code == http.StatusForbidden || refusal.Code == http.StatusNotFound):
		return fmt.Errorf("store key %s: %w: %w", k, storekey.ErrReadOnly, err)
	case err != nil:
		return fmt.Errorf("store key %s: %w", k, err)
	}
	var written secretObject
	if err := json.Unmarshal(body, &written); err != nil {
		return fmt.Errorf("store key %s: the server's answer is no Secret", k)
	}
	k.version = written.Metadata.ResourceVersion
	return nil
}
