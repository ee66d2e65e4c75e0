package hub

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus"
)

// mender starts the embedded server again once the disk is well after a write failed: JetStream refuses a stream from then on, for as long as it runs.
type mender struct {
	server *bus.Server
	dir    string
	log    *zap.Logger
}

// mendEvery is the pause between two looks, wellBytes what the disk must take to be well.
const (
	mendEvery = 2 * time.Second
	wellBytes = 4 << 20
)

func (m *mender) run(ctx context.Context) {
	every(ctx, mendEvery, func() {
		if m.server.Hurt() == "" || m.probe() != nil {
			return
		}
		m.log.Warn("the disk takes writes again: starting the embedded bus anew")
		if err := m.server.Restart(); err != nil {
			m.log.Error("bus", zap.Error(err))
		}
	})
}

// probe writes as much as makes a restart worth trying.
func (m *mender) probe() error {
	path := filepath.Join(m.dir, "probe")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(make([]byte, wellBytes))
	return errors.Join(err, f.Sync(), f.Close(), os.Remove(path))
}

// trouble is why a stream is not written; nil also of no mender.
func (m *mender) trouble() error {
	if m == nil {
		return nil
	}
	hurt := m.server.Hurt()
	if hurt == "" {
		return nil
	}
	if i := strings.LastIndex(hurt, ": "); i >= 0 { // the cause; the paths before it are in the log
		hurt = hurt[i+2:]
	}
	return fmt.Errorf("store: a stream is not written: %s: it will be once the disk is well", hurt)
}
