package edge

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/edge/local"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// word is something that is asked of the loop from outside.
type word struct {
	in   fleetsync.Input
	then func() // called in the loop once what follows from in was carried out
}

var errEnding = errors.New("the agent is ending")

// ask has the loop take a word and waits until it has.
func (a *Agent) ask(ctx context.Context, in fleetsync.Input, then func()) error {
	done := make(chan struct{})
	w := word{in, func() {
		if then != nil {
			then()
		}
		close(done)
	}}
	select {
	case a.words <- w:
	case <-a.ended:
		return errEnding
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-done:
		return nil
	case <-a.ended:
		return errEnding
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Tell gives the agent an input of somebody at the site.
func (a *Agent) Tell(ctx context.Context, in fleetsync.Input) error { return a.ask(ctx, in, nil) }

// Status is what the agent knows now.
func (a *Agent) Status(ctx context.Context) (s local.Status, err error) {
	err = a.ask(ctx, nil, func() { s = local.Status{Linked: a.core.Linked(), State: a.core.State(time.Now())} })
	return s, err
}

// Events gives the newest events that the store keeps, oldest first.
func (a *Agent) Events(limit int) ([]fleetsync.Event, error) {
	newest := []fleetsync.Event{}
	err := a.opts.Store.Scan(fleetsync.EventPrefix, func(_ string, value []byte) error {
		var ev fleetsync.Event
		if err := json.Unmarshal(value, &ev); err != nil {
			return err
		}
		if newest = append(newest, ev); len(newest) > limit {
			newest = newest[1:]
		}
		return nil
	})
	return newest, err
}

// BusyFolder is the folder in which programs say that the site is busy: a file is a signal, its name who says it, its text why.
const BusyFolder = "busy"

const (
	busyEvery    = 5 * time.Second
	maxBusyText  = 400 // bytes of a file that are shown
	maxBusyFiles = 16
)

// watchBusy tells the core of the files in the folder, when they change.
func (a *Agent) watchBusy(ctx context.Context, dir string) {
	folder := filepath.Join(dir, BusyFolder)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		a.opts.Log.Warn("busy folder", zap.Error(err))
	}
	tick := time.NewTicker(busyEvery)
	defer tick.Stop()
	for {
		if files, err := busyFiles(folder); err == nil {
			a.mail.put(fleetsync.BusySeen{Files: files})
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// busyFiles reads the signals. Only regular files count.
func busyFiles(folder string) (map[string]string, error) {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxBusyFiles)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	files := map[string]string{}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		f, err := root.Open(e.Name())
		if err != nil {
			continue // gone again
		}
		text := make([]byte, maxBusyText)
		n, _ := f.Read(text)
		_ = f.Close()
		files[e.Name()] = strings.TrimSpace(strings.ToValidUTF8(string(text[:n]), "?"))
	}
	return files, nil
}
