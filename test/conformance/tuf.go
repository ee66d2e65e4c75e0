package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"

	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// moved reads FAKETIME in the one form the suite uses.
func moved(now time.Time, fakeTime string) (time.Time, error) {
	if fakeTime == "" {
		return now, nil
	}
	days, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(fakeTime, "+"), "d"))
	if err != nil || !strings.HasPrefix(fakeTime, "+") || !strings.HasSuffix(fakeTime, "d") {
		return now, fmt.Errorf("FAKETIME %q: want +<days>d", fakeTime)
	}
	return now.AddDate(0, 0, days), nil
}

func initialise(o options, trusted string) error {
	raw, err := read(trusted, tuf.MaxRoot)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(o.metadataDir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(o.metadataDir, "root.json"), raw, 0o600)
}

func refresh(ctx context.Context, o options, now time.Time) (u *updater.Updater, err error) {
	defer func() {
		if p := recover(); p != nil {
			u, err = nil, fmt.Errorf("panic: %v", p)
		}
	}()
	root, err := read(filepath.Join(o.metadataDir, "root.json"), tuf.MaxRoot)
	if err != nil {
		return nil, err
	}
	settings := &config.UpdaterConfig{
		MaxRootRotations: tuf.MaxRotations, MaxDelegations: 32,
		RootMaxLength: tuf.MaxRoot, TimestampMaxLength: tuf.MaxTimestamp, SnapshotMaxLength: tuf.MaxSnapshot, TargetsMaxLength: tuf.MaxTargets,
		Fetcher: &web{ctx: ctx, metadata: strings.TrimSuffix(o.metadataURL, "/") + "/"}, LocalTrustedRoot: root, LocalMetadataDir: o.metadataDir,
		LocalTargetsDir: o.targetDir, RemoteMetadataURL: o.metadataURL, RemoteTargetsURL: o.targetBaseURL, PrefixTargetsWithHash: true,
	}
	if settings.LocalTargetsDir == "" {
		settings.LocalTargetsDir = o.metadataDir
	}
	if u, err = updater.New(settings); err != nil {
		return nil, err
	}
	u.UnsafeSetRefTime(now.UTC())
	return u, u.Refresh()
}

func download(ctx context.Context, o options, now time.Time) error {
	u, err := refresh(ctx, o, now)
	if err != nil {
		return err
	}
	target, err := u.GetTargetInfo(o.targetName)
	if err != nil {
		return err
	}
	path := filepath.Join(o.targetDir, url.PathEscape(o.targetName))
	if cached, _, err := u.FindCachedTarget(target, path); err == nil && cached != "" {
		return nil
	}
	_, _, err = u.DownloadTarget(target, path, "")
	return err
}

// web is the fetcher over HTTP, with the gate of package tuf before metadata.
type web struct {
	ctx      context.Context
	metadata string // what metadata's URLs begin with
}

// DownloadFile implements fetcher.Fetcher.
func (w *web) DownloadFile(from string, limit int64, _ time.Duration) ([]byte, error) {
	request, err := http.NewRequestWithContext(w.ctx, http.MethodGet, from, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: response.StatusCode, URL: from}
	}
	raw, err := io.ReadAll(io.LimitReader(response.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, &metadata.ErrDownloadLengthMismatch{Msg: fmt.Sprintf("%s: more than %d bytes", from, limit)}
	}
	if strings.HasPrefix(from, w.metadata) {
		if err := tuf.OneReading(raw, int(limit)); err != nil {
			return nil, fmt.Errorf("%s: %w", from, err)
		}
	}
	return raw, nil
}
