package edge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/internal/storekey"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/anchor"
)

// memory is the store with the anchor beside it.
type memory struct {
	options  store.Options
	open     func(store.Options) (opened, error)
	log      *zap.Logger
	store    *reopening
	anchor   *anchor.File
	anchored anchor.Anchor
	damage   string // what was set aside, if anything was
}

// remember opens store and anchor. A damaged store is set aside and a new one begun: the workloads are left alone, the counters come from
// the anchor, everything else from the hub. With the wrong key, or none, nothing is touched.
func remember(c Config, ring storekey.Ring, own seal) (_ *memory, err error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, hinted{fmt.Errorf("data folder: %w", err), "--data must name a folder this user may write to"}
	}
	file, err := anchor.Open(c.Dir, own.of("anchor"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = file.Close()
		}
	}()
	m := &memory{anchor: file, log: c.Log, open: c.open, options: store.Options{Dir: filepath.Join(c.Dir, "store"), Log: c.Log, ReserveBytes: c.ReserveBytes}}
	if m.open == nil {
		m.open = func(o store.Options) (opened, error) { return store.Open(o) }
	}
	if !ring.Empty() {
		m.options = withKey(m.options, ring)
	}
	m.anchored, err = file.Load()
	if err != nil && !errors.Is(err, anchor.ErrDamaged) {
		return nil, err
	}
	if err != nil {
		m.damaged(err.Error())
	}
	m.store, err = m.openStore(m.anchored.StoreHead)
	var damaged *store.Damaged
	if errors.As(err, &damaged) {
		err = m.setAside(damaged)
	}
	if errors.Is(err, fleetsync.ErrNoSpace) && !ring.Empty() && !store.Encrypted(m.options.Dir) {
		// An agent that keeps the site right in the clear is worth more than none; the next start tries again.
		c.Log.Error("the store stays in the clear: there is no room to encrypt it", zap.Error(err))
		m.options.Key, m.options.Former = nil, nil
		m.store, err = m.openStore(m.anchored.StoreHead)
	}
	if err != nil {
		return nil, explained(err, c.Dir)
	}
	if errors.Is(file.Doubt(), anchor.ErrUnsealed) {
		m.anchored = m.doubted(m.anchored)
	}
	return m, nil
}

// doubted is what is believed of an anchor without the site's seal: all of it after an agent that made none, and nothing once the store knows of one that did.
func (m *memory) doubted(a anchor.Anchor) anchor.Anchor {
	if !fleetsync.Noting(m.store) {
		return a
	}
	m.damaged(anchor.ErrUnsealed.Error() + ": its counters are not believed")
	return anchor.Anchor{}
}

// explained adds a hint for what a person can do something about.
func explained(err error, dir string) error {
	wrong := (*store.WrongKey)(nil)
	switch {
	case errors.As(err, &wrong):
		return hinted{err, hintWrongKey}
	case errors.Is(err, store.ErrInUse):
		return hinted{err, "another holdfast-edge runs on this folder; one site has one agent"}
	case errors.Is(err, os.ErrPermission):
		return hinted{err, "--data must name a folder this user may write to: " + dir}
	case errors.Is(err, fleetsync.ErrNoSpace):
		return hinted{err, "make room on the disk of " + dir + ", or give --reserve-mib a smaller number"}
	}
	return err
}

func (m *memory) openStore(wantHead string) (*reopening, error) {
	return newReopening(func(wantHead string) (opened, error) {
		options := m.options
		options.WantHead = wantHead
		return m.open(options)
	}, wantHead, probeFolder(filepath.Dir(m.options.Dir)))
}

// setAside begins a new store in the place of one that cannot be believed.
func (m *memory) setAside(why error) error {
	if m.store != nil {
		_ = m.store.Close() // it is damaged in any case
	}
	aside, err := store.SetAside(m.options.Dir)
	if err != nil {
		return errors.Join(why, err)
	}
	m.damaged(fmt.Sprintf("%v: set aside as %s, beginning anew", why, aside))
	m.store, err = m.openStore("")
	return err
}

func (m *memory) damaged(what string) {
	m.log.Error("what the agent remembers is damaged", zap.String("what", what))
	if m.damage != "" {
		what = m.damage + "; " + what
	}
	m.damage = what
}

// saveMarks writes the counters, and how far the store has come, beside the store.
func (m *memory) saveMarks(marks verify.Counters) error {
	m.anchored.Counters, m.anchored.StoreHead = marks, m.store.Head()
	return m.anchor.Save(m.anchored)
}

func (m *memory) close(log *zap.Logger) {
	defer m.anchor.Close()
	if m.store == nil { // none could be begun in the place of a damaged one
		return
	}
	if err := m.saveMarks(m.anchored.Counters); err != nil {
		log.Warn("anchor", zap.Error(err))
	}
	if err := m.store.Close(); err != nil {
		log.Warn("store", zap.Error(err))
	}
}
