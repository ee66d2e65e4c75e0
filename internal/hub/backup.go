package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/vault"
)

// backupName is the folder of a backup among others: its time, so that names sort by it.
const backupName = "20060102T150405Z"

// StoppedStore is the embedded store of a hub that does not run.
type StoppedStore struct {
	*unlocked
	server *bus.Server
	client *bus.Hub
}

// OpenStopped opens the store in a data directory. It fails while a hub uses it. Nothing but this process reaches it.
func OpenStopped(ctx context.Context, k Keyed) (*StoppedStore, error) {
	if err := k.needStore(); err != nil {
		return nil, err
	}
	o, err := k.offline()
	if err != nil {
		return nil, err
	}
	s := &StoppedStore{}
	if s.server, s.unlocked, err = k.start(ctx, o); err != nil {
		return nil, err
	}
	if s.client, err = s.server.Hub(ctx, s.Log); err != nil {
		s.server.Close()
		s.close()
		return nil, err
	}
	return s, nil
}

// Close gives the store back.
func (s *StoppedStore) Close() {
	s.client.Close()
	s.server.Close()
	s.close()
}

// Backup writes everything into a new folder, sealed to the hub's key.
func (s *StoppedStore) Backup(ctx context.Context, to string) (bus.Backup, error) {
	if err := s.client.EnsureStreams(ctx, bus.StreamOptions{}); err != nil {
		return bus.Backup{}, fmt.Errorf("store: %w", err)
	}
	return s.backup(ctx, s.client, to, time.Now())
}

func (u *unlocked) backup(ctx context.Context, client *bus.Hub, to string, now time.Time) (bus.Backup, error) {
	sealed, err := u.sealed()
	if err != nil {
		return bus.Backup{}, err
	}
	return client.Backup(ctx, to, now, u.key, sealed)
}

// Restore puts a backup in the place of everything a stopped hub's store holds. The account of what was there before is forgotten with it: what the backup is
// behind, the sites say. Cut off, the store is as it was, or restored.
func Restore(ctx context.Context, k Keyed, from string) (bus.Backup, error) {
	backup, err := bus.ReadBackup(from)
	if err != nil {
		return backup, err
	}
	o, err := k.offline()
	if err != nil {
		return backup, err
	}
	u, err := k.unlock(ctx)
	if err != nil {
		return backup, err
	}
	defer u.close()
	sealing, err := u.keyOf(backup)
	if err != nil {
		return backup, fmt.Errorf("backup %s: %w", from, err)
	}
	if err := os.RemoveAll(u.path(nextStore)); err != nil {
		return backup, fmt.Errorf("restore: %w", err)
	}
	if err := u.build(ctx, o, func(fresh *bus.Hub) error { return fresh.Restore(ctx, from, backup, sealing) }); err != nil {
		return backup, errors.Join(err, os.RemoveAll(u.path(nextStore)))
	}
	if err := dropLedger(u.Dir); err != nil {
		return backup, fmt.Errorf("ledger: %w", err)
	}
	if err := syncFolder(u.Dir); err != nil {
		return backup, fmt.Errorf("ledger: %w", err)
	}
	if err := u.swap(); err != nil {
		return backup, fmt.Errorf("restore: %w", err)
	}
	return backup, nil
}

// keyOf finds the key that a backup is sealed to: the hub's own, or the one that lies in the backup and that the ring opens.
func (u *unlocked) keyOf(b bus.Backup) (vault.Key, error) {
	if b.SealedTo == "" || b.SealedTo == u.key.Name() {
		return u.key, nil
	}
	key, _, err := vault.OpenBy(u.ring, b.Key)
	if err == nil && key.Name() != b.SealedTo {
		err = fmt.Errorf("hub key: the one in it is %s", key)
	}
	if err != nil {
		return key, hinted{fmt.Errorf("it is sealed to %s, which is neither this hub's key nor sealed by its store key: %w", b.SealedTo, err),
			"name the store key from when it was made with --store-key"}
	}
	return key, nil
}

// Backups says where a running hub leaves backups, how often, and how many of them stay.
type Backups struct {
	Dir   string // empty: it makes none
	Every time.Duration
	Keep  int
}

// keepBackups makes a backup whenever one is due until ctx ends.
func (h *Hub) keepBackups(ctx context.Context, client *bus.Hub) {
	b := h.cfg.Backups
	for {
		wait := b.Every
		if names := backupsIn(b.Dir); len(names) > 0 {
			if newest, err := time.Parse(backupName, names[len(names)-1]); err == nil {
				wait = max(0, b.Every-h.cfg.Now().Sub(newest))
			}
		} else {
			wait = 0
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		if err := h.backup(ctx, client); err != nil && ctx.Err() == nil {
			h.log.Error("no backup", zap.Error(err))
			select {
			case <-ctx.Done():
				return
			case <-time.After(min(b.Every, time.Hour)):
			}
		}
	}
}

// backup makes one backup and removes those beyond what stays. One that was cut off has no index, so it never counts, and goes too.
func (h *Hub) backup(ctx context.Context, client *bus.Hub) error {
	b := h.cfg.Backups
	name := h.cfg.Now().UTC().Format(backupName)
	made, err := h.unlocked.backup(ctx, client, filepath.Join(b.Dir, name), h.cfg.Now())
	if err != nil {
		return errors.Join(err, os.RemoveAll(filepath.Join(b.Dir, name)))
	}
	messages := uint64(0)
	for _, taken := range made.Streams {
		messages += taken.Messages
	}
	h.log.Info("backup", zap.String("folder", filepath.Join(b.Dir, name)), zap.Uint64("messages", messages))
	names := backupsIn(b.Dir)
	for _, old := range names[:max(0, len(names)-b.Keep)] {
		err = errors.Join(err, os.RemoveAll(filepath.Join(b.Dir, old)))
	}
	return err
}

// backupsIn are the names of the backups in a folder, the oldest first.
func backupsIn(dir string) (names []string) {
	entries, _ := os.ReadDir(dir) // a folder that is not there yet has none
	for _, entry := range entries {
		if _, err := time.Parse(backupName, entry.Name()); err == nil && entry.IsDir() {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names)
	return names
}
