package edge

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/internal/storekey"
)

// Where the key of a store is when nothing is said: in a pod in this Secret of the pod's namespace, elsewhere in this file of the data folder, beside the store.
const (
	StoreKeySecret = "holdfast-edge-store-key"
	StoreKeyFile   = "store.key"
)

const (
	keyPurpose   = "edge"
	keyRetry     = 2 * time.Second
	hintLostKey  = "put the key back where it was, or name it with --store-key; without it what the store holds is lost: holdfast-edge store set-aside begins anew"
	hintWrongKey = "the key was exchanged: put the old one back, or give both, the new one in the first line; holdfast-edge store set-aside begins anew without what the store holds"
)

// Keyed is a store's folder and where its key is.
type Keyed struct {
	Dir       string                     // data folder
	StoreKey  string                     // as the flag; empty: the default
	Namespace string                     // of the pod; empty: this is none
	Cluster   func() (*kube.Conn, error) // for Secrets
	Log       *zap.Logger
}

func (k Keyed) store() string { return filepath.Join(k.Dir, "store") }

// source gives where the key is, and whether that was chosen for want of a flag.
func (k Keyed) source(ref string) (_ storekey.Source, chosen bool, err error) {
	file := filepath.Join(k.Dir, StoreKeyFile)
	if ref == "" {
		chosen = true
		if _, err := os.Stat(file); err == nil || k.Namespace == "" {
			return storekey.File(file), true, nil
		}
		ref = "secret:" + k.Namespace + "/" + StoreKeySecret
	}
	conn, connected := k.Cluster()
	source, err := storekey.Open(ref, func(namespace, name string) storekey.Source {
		if connected != nil {
			return nil
		}
		return conn.StoreKey(namespace, name)
	})
	if err == nil && source == nil {
		err = connected
	}
	return source, chosen, err
}

// obtain gives the ring, waiting for a cluster that does not answer. A Secret that was not asked for and cannot be had is a file instead, where no store needs it yet.
func (k Keyed) obtain(ctx context.Context, ref string) (storekey.Source, storekey.Ring, error) {
	source, chosen, err := k.source(ref)
	if err != nil {
		return nil, storekey.Ring{}, err
	}
	for told := false; ; {
		encrypted := store.Encrypted(k.store())
		ring, err := storekey.Obtain(ctx, source, encrypted)
		var refusal *apply.ServerError
		answered := !errors.As(err, &refusal) || refusal.Code != 0 && refusal.Code < http.StatusInternalServerError
		switch {
		case err == nil:
			return source, ring, nil
		case errors.Is(err, storekey.ErrLost):
			return nil, ring, hinted{err, hintLostKey}
		case answered && chosen && !encrypted && k.Namespace != "":
			k.Log.Warn("the store's key is in a file beside it", zap.Error(err), zap.String("hint", "deploy/edge has the Secret and the role for it"))
			source, chosen = storekey.File(filepath.Join(k.Dir, StoreKeyFile)), false
			continue
		case answered:
			return nil, ring, err
		}
		if !told {
			told = true
			k.Log.Warn("the store's key is in the cluster, which does not answer: waiting", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil, ring, errStopped
		case <-time.After(keyRetry):
		}
	}
}

// withKey puts a ring into a store's options.
func withKey(o store.Options, ring storekey.Ring) store.Options {
	keys := ring.Keys(keyPurpose)
	o.Key, o.Former = keys[0], keys[1:]
	return o
}

// settle takes keys from before out of the source: the store was opened, so it needs them no longer.
func settle(ctx context.Context, source storekey.Source, ring storekey.Ring) error {
	if !ring.Rotating() {
		return nil
	}
	return source.Write(ctx, ring.Settled())
}

// RotateKey changes the key of a store whose agent does not run: to a new one in the same place, or to the one of another place. Cut off, it is called again, or the
// agent started.
func RotateKey(ctx context.Context, k Keyed, to string) (in string, err error) {
	if _, err := os.Stat(k.store()); err != nil {
		return "", hinted{fmt.Errorf("store %s: there is none", k.store()), "--data must name the agent's data folder"}
	}
	source, ring, err := k.obtain(ctx, k.StoreKey)
	if err != nil {
		return "", err
	}
	if err := k.openAndClose(ring); err != nil { // the store is free and the ring its own, or nothing is changed
		return "", err
	}
	next, target := ring, source
	switch {
	case to != "":
		if target, _, err = k.source(to); err != nil {
			return "", err
		}
		fresh, err := storekey.Obtain(ctx, target, false)
		if err != nil {
			return "", err
		}
		next = fresh.Before(ring)
	case !ring.Rotating(): // else a rotation that was cut off is finished
		next = ring.Next()
		// The new key is durable before the store has it (K2).
		if err := source.Write(ctx, next); err != nil {
			if errors.Is(err, storekey.ErrReadOnly) {
				err = hinted{err, "let it give two lines, the new key and the old one, and start the agent: it changes the store"}
			}
			return "", err
		}
	}
	if err := k.openAndClose(next); err != nil {
		return "", err
	}
	if to == "" {
		err = settle(ctx, source, next)
	}
	return target.String(), err
}

// openAndClose brings the store to the first key of a ring.
func (k Keyed) openAndClose(ring storekey.Ring) error {
	s, err := store.Open(withKey(store.Options{Dir: k.store(), Log: k.Log}, ring))
	if err != nil {
		return explained(err, k.Dir)
	}
	return s.Close()
}

// SetAside renames the store of an agent that does not run, so that the next start begins a new one.
func SetAside(dir string) (movedTo string, err error) {
	movedTo, err = store.SetAside(filepath.Join(dir, "store"))
	return movedTo, explained(err, dir)
}
