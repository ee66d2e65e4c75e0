package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus"
)

// backupName is the folder of a backup among others: its time, so that names sort by it.
const backupName = "20060102T150405Z"

// StoppedStore is the embedded store of a hub that does not run.
type StoppedStore struct {
	dir    string
	server *bus.Server
	client *bus.Hub
}

// OpenStopped opens the store in a data directory. It fails while a hub uses it. Nothing but this process reaches it.
func OpenStopped(ctx context.Context, dir string, log *zap.Logger) (*StoppedStore, error) {
	if _, err := os.Stat(filepath.Join(dir, "jetstream")); err != nil {
		return nil, hinted{fmt.Errorf("store: %w", err), "--data must name the directory of a hub with an embedded store"}
	}
	ring, err := openKeyring(dir)
	if err != nil {
		return nil, err
	}
	keys, err := ring.busKeys()
	if err != nil {
		return nil, err
	}
	authority, err := openAuthority(ring, certificateNames(nil), time.Now)
	if err != nil {
		return nil, err
	}
	s := &StoppedStore{dir: dir}
	s.server, err = bus.StartServer(bus.ServerOptions{DataDir: filepath.Join(dir, "jetstream"), Listen: "127.0.0.1:0", TLS: authority.tls(), Keys: keys, Log: log})
	if err != nil {
		if strings.Contains(err.Error(), "in use by another process") {
			return nil, hinted{err, "the hub runs: stop it first. A running hub makes backups by itself with --backup-to"}
		}
		return nil, err
	}
	if s.client, err = s.server.Hub(ctx, log); err != nil {
		s.server.Close()
		return nil, err
	}
	return s, nil
}

// Close gives the store back.
func (s *StoppedStore) Close() {
	s.client.Close()
	s.server.Close()
}

// Backup writes everything into a new folder.
func (s *StoppedStore) Backup(ctx context.Context, to string) (bus.Backup, error) {
	if err := s.client.EnsureStreams(ctx, bus.StreamOptions{}); err != nil {
		return bus.Backup{}, fmt.Errorf("store: %w", err)
	}
	return s.client.Backup(ctx, to, time.Now())
}

// Restore puts a backup in the place of everything. The account of what was there before is forgotten with it: what the backup is behind, the sites say.
func (s *StoppedStore) Restore(ctx context.Context, from string) (bus.Backup, error) {
	backup, err := bus.ReadBackup(from)
	if err != nil {
		return backup, err
	}
	if err := dropLedger(s.dir); err != nil {
		return backup, fmt.Errorf("ledger: %w", err)
	}
	if err := syncFolder(s.dir); err != nil {
		return backup, fmt.Errorf("ledger: %w", err)
	}
	return backup, s.client.Restore(ctx, from, backup)
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
	made, err := client.Backup(ctx, filepath.Join(b.Dir, name), h.cfg.Now())
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
