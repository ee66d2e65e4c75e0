package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/storekey"
	"github.com/holdfast-fleet/holdfast/internal/vault"
	"github.com/holdfast-fleet/holdfast/internal/wholefile"
)

// StoreKeyFile is where the secret that seals a hub's key is when nothing is said: in this file of the data directory, beside the store.
const StoreKeyFile = "store.key"

// Folders and files of a data directory. A store that is made anew, encrypted or from a backup, is built in nextStore; two renames put it in the place of the one
// that is there, which is pastStore until it is removed.
const (
	storeFolder = "jetstream"
	nextStore   = "jetstream.next"
	pastStore   = "jetstream.past"
	sealedKey   = "holdfast.key" // in the store's folder, so that a store and its key move in one step
	transfer    = "transfer"     // in nextStore, what is brought into it
)

const (
	hintLostKey = "put the key back where it was, or name it with --store-key; without it what the store holds is lost: move jetstream out of the data directory, and holdfast-hub restore " +
		"puts a backup in its place"
	hintWrongKey = "the key was exchanged: put the old one back, or give both, the new one in the first line"
	hintInUse    = "the hub runs: stop it first. A running hub makes backups by itself with --backup-to"
)

// roomBeside is what a disk must have left beside the copies that are made of a store.
const roomBeside = 64 << 20 // bytes

// Keyed is a hub's data directory and where the secret is that seals its key.
type Keyed struct {
	Dir      string
	StoreKey string      // as the flag; empty: StoreKeyFile
	Log      *zap.Logger // nil is silent
}

func (k Keyed) path(name string) string { return filepath.Join(k.Dir, name) }

func (k Keyed) source(ref string) (storekey.Source, error) {
	if ref == "" {
		return storekey.File(k.path(StoreKeyFile)), nil
	}
	return storekey.Open(ref, nil)
}

// unlocked is a data directory that is this process's, with its key.
type unlocked struct {
	Keyed
	lock     io.Closer
	source   storekey.Source
	ring     storekey.Ring
	key      vault.Key
	inClear  bool // the store is from before encryption; the key is in no file yet
	finished bool // a rotation that was cut off
}

func (u *unlocked) close() { _ = u.lock.Close() }

// unlock takes the data directory and finds the store's key, or makes the first one. It finishes what was cut off: a store on its way into its place, a rotation.
func (k Keyed) unlock(ctx context.Context) (*unlocked, error) {
	if k.Log == nil {
		k.Log = zap.NewNop()
	}
	lock, err := bus.Lock(k.Dir)
	if err != nil {
		return nil, taken(err)
	}
	u := &unlocked{Keyed: k, lock: lock}
	if err := u.open(ctx); err != nil {
		u.close()
		return nil, err
	}
	return u, nil
}

func taken(err error) error {
	if errors.Is(err, bus.ErrInUse) {
		return hinted{err, hintInUse}
	}
	return err
}

func (u *unlocked) open(ctx context.Context) error {
	if err := u.finishSwap(); err != nil {
		return fmt.Errorf("store %s: %w", u.path(storeFolder), err)
	}
	locked, empty, err := bus.Locked(u.path(storeFolder))
	if err != nil {
		return err
	}
	path := filepath.Join(u.path(storeFolder), sealedKey)
	raw, err := wholefile.Read(path, vault.MaxFile)
	none := errors.Is(err, fs.ErrNotExist)
	if err != nil && !none {
		return fmt.Errorf("store: hub key %s: %w", path, wholefile.Cause(err))
	}
	if u.source, err = u.Keyed.source(u.StoreKey); err != nil {
		return err
	}
	if u.ring, err = storekey.Obtain(ctx, u.source, locked || !none); err != nil {
		if errors.Is(err, storekey.ErrLost) {
			return hinted{err, hintLostKey}
		}
		return err
	}
	switch {
	case !none:
		return u.openKey(ctx, path, raw)
	case locked:
		return hinted{fmt.Errorf("hub key %s: the store is encrypted, and its sealed key is gone", path), "put the file back: each backup holds it in backup.json, under key"}
	}
	if u.key, err = vault.New(); err != nil {
		return err
	}
	if u.inClear = !empty; u.inClear {
		return nil
	}
	// The secret is durable in its source (K2), and now the key in its file; only then anything is encrypted with it.
	if err := os.MkdirAll(u.path(storeFolder), 0o700); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return u.sealInto(u.path(storeFolder))
}

// openKey opens the key and brings it to the first secret of the ring. A crash before the file is replaced leaves the old secret, after it the new one: the
// ring holds both until then.
func (u *unlocked) openKey(ctx context.Context, path string, raw []byte) error {
	key, first, err := vault.OpenBy(u.ring, raw)
	if errors.Is(err, vault.ErrWrongSecret) {
		return hinted{fmt.Errorf("store key %s: %w", u.source, err), hintWrongKey}
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	u.key = key
	if !first {
		if err := u.sealInto(u.path(storeFolder)); err != nil {
			return err
		}
	}
	if !u.ring.Rotating() {
		return nil
	}
	u.ring, u.finished = u.ring.Settled(), true
	err = u.source.Write(ctx, u.ring)
	if errors.Is(err, storekey.ErrReadOnly) {
		u.Log.Info("the store's key is changed: the old one can be taken out of its place", zap.Stringer("place", u.source))
		return nil
	}
	return err
}

// sealed is the file of the key.
func (u *unlocked) sealed() ([]byte, error) { return u.key.SealBy(u.ring) }

func (u *unlocked) sealInto(dir string) error {
	raw, err := u.sealed()
	if err == nil {
		err = wholefile.Replace(filepath.Join(dir, sealedKey), raw, 0o600)
	}
	return err
}

// finishSwap puts a finished store in its place where a crash came between the two renames, and removes what is left of others.
func (u *unlocked) finishSwap() error {
	place, next, past := u.path(storeFolder), u.path(nextStore), u.path(pastStore)
	// The next one is whole before the one that is there is renamed.
	if !there(place) && there(past) && there(next) {
		if err := os.Rename(next, place); err != nil {
			return err
		}
		if err := syncFolder(u.Dir); err != nil {
			return err
		}
	}
	if !there(place) && there(past) {
		return fmt.Errorf("it is gone, and %s is there: put it back by hand", past)
	}
	return errors.Join(os.RemoveAll(next), os.RemoveAll(past))
}

// needStore refuses a directory that has no store, also none on its way into its place.
func (k Keyed) needStore() error {
	if there(k.path(storeFolder)) || there(k.path(pastStore)) {
		return nil
	}
	return hinted{fmt.Errorf("store %s: there is none", k.path(storeFolder)), "--data must name the directory of a hub with an embedded store"}
}

func there(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// swap puts the finished next store in the place of the one that is there.
func (u *unlocked) swap() error {
	place, next, past := u.path(storeFolder), u.path(nextStore), u.path(pastStore)
	if there(place) {
		lock, err := bus.Lock(place) // a hub from before the lock of the whole directory
		if err != nil {
			return taken(err)
		}
		defer lock.Close()
		if err := os.Rename(place, past); err != nil {
			return err
		}
	}
	// Commit point: a crash after this is finished by the next start.
	if err := os.Rename(next, place); err != nil {
		return err
	}
	if err := syncFolder(u.Dir); err != nil {
		return err
	}
	return os.RemoveAll(past)
}

// build makes the next store with the key, filled by fill, durable down to its last file. o says how its server is run.
func (u *unlocked) build(ctx context.Context, o bus.ServerOptions, fill func(*bus.Hub) error) error {
	next := u.path(nextStore)
	if err := u.with(ctx, o, next, u.key, fill); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(next, transfer)); err != nil {
		return err
	}
	if err := u.sealInto(next); err != nil {
		return err
	}
	return syncTree(next)
}

// with runs a server of a store for as long as do takes.
func (u *unlocked) with(ctx context.Context, o bus.ServerOptions, dir string, key vault.Key, do func(*bus.Hub) error) error {
	o.DataDir, o.Key, o.Listen, o.WebSocket = dir, key.Store(), "127.0.0.1:0", ""
	server, err := bus.StartServer(o)
	if err != nil {
		return taken(err)
	}
	defer server.Close()
	client, err := server.Hub(ctx, u.Log)
	if err != nil {
		return err
	}
	defer client.Close()
	return do(client)
}

// rewrite copies the store, written with the key from (none: in the clear), into one that is written with the key, checks the copy, and puts it in its place.
// Cut off before that, the copy is thrown away and the store is as it was.
func (u *unlocked) rewrite(ctx context.Context, o bus.ServerOptions, from vault.Key) error {
	if err := u.room(); err != nil {
		return err
	}
	begun := time.Now()
	u.Log.Info("the store is copied into an encrypted one: this takes a while, once")
	moved := filepath.Join(u.path(nextStore), transfer)
	if err := os.RemoveAll(u.path(nextStore)); err != nil {
		return fmt.Errorf("store: encrypt: %w", err)
	}
	var whole bus.Backup
	err := u.with(ctx, o, u.path(storeFolder), from, func(old *bus.Hub) (err error) {
		if err = old.EnsureStreams(ctx, bus.StreamOptions{}); err == nil {
			whole, err = old.Backup(ctx, moved, begun, u.key, nil)
		}
		return err
	})
	if err == nil {
		err = u.build(ctx, o, func(fresh *bus.Hub) error { return fresh.Restore(ctx, moved, whole, u.key) })
	}
	if err == nil {
		err = u.swap()
	}
	if err != nil {
		return fmt.Errorf("store %s: encrypt: %w", u.path(storeFolder), errors.Join(err, os.RemoveAll(u.path(nextStore))))
	}
	u.inClear = false
	u.Log.Info("the store is encrypted", zap.Duration("took", time.Since(begun)))
	return nil
}

// room refuses to begin a copy that the disk does not hold: what is brought over, and the copy made of it.
func (u *unlocked) room() error {
	size, err := wholefile.Size(u.path(storeFolder))
	if err != nil {
		return fmt.Errorf("store: encrypt: %w", err)
	}
	var disk syscall.Statfs_t
	if err := syscall.Statfs(u.Dir, &disk); err != nil {
		return fmt.Errorf("store: encrypt: %w", err)
	}
	free, need := int64(disk.Bavail)*disk.Bsize, 2*size+roomBeside
	if free < need {
		return hinted{fmt.Errorf("store %s: encrypt: %d MiB are free, and a copy needs %d", u.path(storeFolder), free>>20, need>>20+1),
			"nothing was changed: make room, or move the data directory to a larger disk, and start again; a hub from before opens it as it is"}
	}
	return nil
}

// start starts the embedded bus of a data directory, encrypted. What it returns is closed after the server.
func (k Keyed) start(ctx context.Context, o bus.ServerOptions) (*bus.Server, *unlocked, error) {
	u, err := k.unlock(ctx)
	if err != nil {
		return nil, nil, err
	}
	if u.inClear {
		err = u.rewrite(ctx, o, vault.Key{})
	}
	var server *bus.Server
	if err == nil {
		o.DataDir, o.Key = u.path(storeFolder), u.key.Store()
		server, err = bus.StartServer(o)
	}
	if errors.Is(err, bus.ErrWrongKey) {
		err = hinted{err, "holdfast.key in the store's folder is the one of another store: put its own back; each backup holds it in backup.json, under key"}
	}
	if err != nil {
		u.close()
		return nil, nil, taken(err)
	}
	return server, u, nil
}

// syncTree makes everything in a folder durable.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}

// RotateKey changes the secret that seals the key of a stopped hub: to a new one in the same place, or to the one of another place. With anew the key itself is
// changed too, and the whole store written with the new one. Cut off, it is called again, or the hub started.
func RotateKey(ctx context.Context, k Keyed, to string, anew bool) (in string, err error) {
	if err := k.needStore(); err != nil {
		return "", err
	}
	u, err := k.unlock(ctx)
	if err != nil {
		return "", err
	}
	defer u.close()
	if u.inClear {
		return "", hinted{fmt.Errorf("store %s: it is in the clear", u.path(storeFolder)), "start the hub once: it encrypts it"}
	}
	if err := u.rotate(ctx, to); err != nil {
		return "", err
	}
	if !anew {
		return u.source.String(), nil
	}
	o, err := k.offline()
	if err != nil {
		return "", err
	}
	from := u.key
	if u.key, err = vault.New(); err != nil {
		return "", err
	}
	return u.source.String(), u.rewrite(ctx, o, from)
}

// rotate brings the key to another secret. A new one is durable in its place before the key is sealed by it, and an old one leaves only afterwards (K2).
func (u *unlocked) rotate(ctx context.Context, to string) error {
	if to == "" {
		if u.finished {
			return nil
		}
		old := u.ring
		u.ring = old.Next()
		if err := u.source.Write(ctx, u.ring); err != nil {
			if errors.Is(err, storekey.ErrReadOnly) {
				err = hinted{err, "let it give two lines, the new key and the old one, and start the hub: it changes the store"}
			}
			return err
		}
		if err := u.sealInto(u.path(storeFolder)); err != nil {
			return err
		}
		u.ring = u.ring.Settled()
		return u.source.Write(ctx, u.ring)
	}
	target, err := u.Keyed.source(to)
	if err != nil {
		return err
	}
	fresh, err := storekey.Obtain(ctx, target, false)
	if err != nil {
		return err
	}
	u.source, u.ring = target, fresh
	return u.sealInto(u.path(storeFolder))
}

// offline is how the server of a stopped hub is run, for this process alone.
func (k Keyed) offline() (o bus.ServerOptions, err error) {
	ring, err := openKeyring(k.Dir)
	if err != nil {
		return o, err
	}
	keys, err := ring.busKeys()
	if err != nil {
		return o, err
	}
	authority, err := openAuthority(ring, certificateNames(nil), time.Now)
	if err != nil {
		return o, err
	}
	return bus.ServerOptions{Listen: "127.0.0.1:0", TLS: authority.tls(), Keys: keys, Log: k.Log}, nil
}

func (h *Hub) keyed() Keyed {
	return Keyed{Dir: h.cfg.DataDir, StoreKey: h.cfg.StoreKey, Log: h.log.Named("store")}
}

// unlockBackups finds the key of the backups of a bus that is somebody else's: the store there is theirs to encrypt.
func (h *Hub) unlockBackups(ctx context.Context) error {
	if h.unlocked != nil {
		return nil
	}
	u, err := h.keyed().unlock(ctx)
	if err != nil {
		return err
	}
	h.unlocked, h.closers = u, append(h.closers, u.close)
	if u.inClear {
		return hinted{fmt.Errorf("store %s: it is in the clear, and backups have no key yet", u.path(storeFolder)), "move it out of the data directory, where its embedded bus is used no longer"}
	}
	return nil
}
