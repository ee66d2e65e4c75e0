package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/holdfast-fleet/holdfast/internal/storekey"
	"github.com/holdfast-fleet/holdfast/internal/vault"
	"github.com/holdfast-fleet/holdfast/internal/wholefile"
)

// Recovery is what a hub on another machine needs beside a backup to be the same hub: to sites, to operators, and to the backup. It holds secrets: whoever has it
// is this hub. It holds no key that releases anything (P2).
type Recovery struct {
	Schema string `json:"schema"`
	// Data are files of the data directory, by their slash-separated paths: keys of the bus and of the CA, the hash of the admin's token, the admin's context.
	Data map[string][]byte `json:"data"`
	// Trust are the published files of the root of trust as the hub was started with, Online the hub's online keys.
	Trust  map[string][]byte `json:"trust"`
	Online [][]byte          `json:"online"`
	// HubKey opens store and backups.
	HubKey string `json:"hubKey"`
}

const (
	recoverySchema = "holdfast.dev/hub-recovery/v1"
	// MaxRecovery bounds the file, and what a folder may bring into it.
	MaxRecovery     = 32 << 20
	maxRecoveryFile = 4 << 20
	maxFilesOfOne   = 4096
)

// Recovery gathers what another machine needs; also of a running hub. trust is the folder with the published metadata, online are the files of the online keys.
func (k Keyed) Recovery(ctx context.Context, trust fs.FS, online [][]byte) (Recovery, error) {
	r := Recovery{Schema: recoverySchema, Data: map[string][]byte{}, Online: online}
	raw, err := wholefile.Read(filepath.Join(k.path(storeFolder), sealedKey), vault.MaxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return r, hinted{fmt.Errorf("hub key: there is none in %s", k.path(storeFolder)), "--data must name the directory of a hub that ran with this version"}
	}
	if err != nil {
		return r, fmt.Errorf("hub key: %w", err)
	}
	source, err := k.source(k.StoreKey)
	if err != nil {
		return r, err
	}
	ring, err := storekey.Obtain(ctx, source, true)
	if err != nil {
		return r, hinted{err, hintLostKey}
	}
	key, _, err := vault.OpenBy(ring, raw)
	if err != nil {
		return r, hinted{fmt.Errorf("store key %s: %w", source, err), hintWrongKey}
	}
	r.HubKey = key.Secret()
	if r.Trust, err = filesOf(trust, "."); err != nil {
		return r, fmt.Errorf("root of trust: %w", err)
	}
	data := os.DirFS(k.Dir)
	if r.Data, err = filesOf(data, "keys"); err != nil {
		return r, fmt.Errorf("keys of the hub: %w", err)
	}
	admin, err := fs.ReadFile(data, ContextFileName)
	if err == nil {
		r.Data[ContextFileName] = admin
	} else if !errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("the admin's context: %w", err)
	}
	return r, nil
}

// filesOf reads a folder of small files.
func filesOf(from fs.FS, root string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := fs.WalkDir(from, root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := fs.Stat(from, name) // where a Secret or ConfigMap is mounted, files are links
		if err != nil || info.IsDir() || strings.HasPrefix(path.Base(name), ".") {
			return err
		}
		if info.Size() > maxRecoveryFile || len(files) >= maxFilesOfOne {
			return fmt.Errorf("%s: more than %d bytes in a file, or more than %d files", name, maxRecoveryFile, maxFilesOfOne)
		}
		files[name], err = fs.ReadFile(from, name)
		return err
	})
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: there are no files", root)
	}
	return files, err
}

// Encode is the file.
func (r Recovery) Encode() ([]byte, error) {
	raw, err := json.MarshalIndent(r, "", " ")
	if err == nil && len(raw) > MaxRecovery {
		err = fmt.Errorf("more than %d bytes", MaxRecovery)
	}
	if err != nil {
		return nil, fmt.Errorf("recovery: %w", err)
	}
	return append(raw, '\n'), nil
}

// DecodeRecovery reads the file. Its errors show nothing of what is in it.
func DecodeRecovery(raw []byte) (r Recovery, err error) {
	if len(raw) > MaxRecovery+1 {
		return r, fmt.Errorf("recovery: more than %d bytes", MaxRecovery)
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil || r.Schema != recoverySchema {
		return r, fmt.Errorf("recovery: it is no file of keys for a hub (%s)", recoverySchema)
	}
	if _, err := vault.Parse(r.HubKey); err != nil {
		return r, fmt.Errorf("recovery: %w", err)
	}
	if len(r.Online) == 0 || len(r.Trust) == 0 || len(r.Data) == 0 {
		return r, errors.New("recovery: it is not whole")
	}
	for name := range r.Trust {
		if !filepath.IsLocal(filepath.FromSlash(name)) || path.Clean(name) != name {
			return r, fmt.Errorf("recovery: %.120q is no file of a root of trust", name)
		}
	}
	for name := range r.Data {
		if name != ContextFileName && (path.Dir(name) != "keys" || path.Clean(name) != name) {
			return r, fmt.Errorf("recovery: %.120q is no file of a data directory", name)
		}
	}
	return r, nil
}

// Install puts a recovery into a data directory and a folder for the root of trust, both empty, missing, or of this same recovery that was cut off. The store is
// then restored from a backup.
func (r Recovery) Install(ctx context.Context, k Keyed, trust string) error {
	key, err := vault.Parse(r.HubKey)
	if err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	files := map[string][]byte{}
	for name, raw := range r.Data {
		files[filepath.Join(k.Dir, filepath.FromSlash(name))] = raw
	}
	for name, raw := range r.Trust {
		files[filepath.Join(trust, "tuf", filepath.FromSlash(name))] = raw
	}
	for i, raw := range r.Online {
		files[filepath.Join(trust, onlineKeyName(i))] = raw
	}
	for name, raw := range files {
		if there, err := wholefile.Read(name, maxRecoveryFile); err == nil && !bytes.Equal(there, raw) {
			return hinted{fmt.Errorf("recovery: %s is there, and is another one", name), "give folders that are empty"}
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("recovery: %w", err)
		}
	}
	if there(k.path(storeFolder)) {
		raw, err := wholefile.Read(filepath.Join(k.path(storeFolder), sealedKey), vault.MaxFile)
		if err != nil {
			return hinted{fmt.Errorf("recovery: a store is in %s", k.Dir), "give a data directory that is empty"}
		}
		source, err := k.source(k.StoreKey)
		if err != nil {
			return err
		}
		ring, err := storekey.Obtain(ctx, source, true)
		if err != nil {
			return err
		}
		if own, _, err := vault.OpenBy(ring, raw); err != nil || own.Name() != key.Name() {
			return hinted{fmt.Errorf("recovery: the store in %s is another hub's", k.Dir), "give a data directory that is empty"}
		}
	}
	for name, raw := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return fmt.Errorf("recovery: %w", err)
		}
		if err := wholefile.Replace(name, raw, 0o600); err != nil {
			return fmt.Errorf("recovery: %w", err)
		}
	}
	if there(k.path(storeFolder)) {
		return nil
	}
	source, err := k.source(k.StoreKey)
	if err != nil {
		return err
	}
	u := &unlocked{Keyed: k, key: key}
	if u.ring, err = storekey.Obtain(ctx, source, false); err != nil {
		return err
	}
	if err := os.MkdirAll(k.path(storeFolder), 0o700); err != nil {
		return fmt.Errorf("recovery: %w", err)
	}
	return u.sealInto(k.path(storeFolder))
}

// onlineKeyName is the file of an online key in the folder of the root of trust.
func onlineKeyName(i int) string {
	if i == 0 {
		return "online.key"
	}
	return fmt.Sprintf("online-%d.key", i+1)
}
