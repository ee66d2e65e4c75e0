package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// knownSites are the fingerprint words of sites' identities as this desk has seen them, by fleet, so that a hub cannot put another key in a site's place.
type knownSites struct {
	path    string
	fleets  map[string]map[bundle.SiteID]string
	changed bool
}

const maxKnown = 16 << 20 // bytes

// openKnown reads the file; the default one where path is empty. One that is not there knows nobody.
func openKnown(path string) (*knownSites, error) {
	if path == "" {
		_, used, err := contextsDir()
		if err != nil {
			return nil, err
		}
		path = filepath.Join(filepath.Dir(used), "known-sites.json")
	}
	k := &knownSites{path: path, fleets: map[string]map[bundle.SiteID]string{}}
	raw, err := readLimited(path, maxKnown)
	if errors.Is(err, fs.ErrNotExist) {
		return k, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &k.fleets); err != nil || k.fleets == nil {
		return nil, fmt.Errorf("%s: not a file of known sites", path)
	}
	return k, nil
}

// left stands before the words of hardware whose place was given to other hardware.
const left = "replaced "

// words are those that the site is known by, and those of its hardware before where it is being replaced.
func (k *knownSites) words(fleet string, site bundle.SiteID) (now, before string) {
	noted := k.fleets[fleet][site]
	if before, replaced := strings.CutPrefix(noted, left); replaced {
		return "", before
	}
	return noted, ""
}

func (k *knownSites) note(fleet string, site bundle.SiteID, words string) {
	if k.fleets[fleet] == nil {
		k.fleets[fleet] = map[bundle.SiteID]string{}
	}
	k.fleets[fleet][site], k.changed = words, true
}

func (k *knownSites) save(d *desk) error {
	if !k.changed {
		return nil
	}
	raw, err := json.MarshalIndent(k.fleets, "", "  ")
	if err != nil {
		return fmt.Errorf("known sites: encode: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return err
	}
	return d.writeWhole(k.path, append(raw, '\n'), 0o600)
}

func wordsOf(identity ed25519.PublicKey) string { return enrol.Fingerprint(identity) }

// leaveSite remembers that other hardware takes a site's place: nothing is sealed for what was there without asking.
func (d *desk) leaveSite(ctx context.Context, hub *api.Client, site bundle.SiteID) {
	known, err := openKnown("")
	if err == nil {
		var version api.Version
		if version, err = hub.Version(ctx); err == nil {
			if now, _ := known.words(version.Fleet, site); now != "" {
				known.note(version.Fleet, site, left+now)
				err = known.save(d)
			}
		}
	}
	if err != nil {
		d.sayf("warning: it is not noted for holdfast secret that %s is replaced: %v", site, err)
	}
}

// noteSites remembers the words of sites that the operator has just made or approved. Where that fails it says so: secret set asks for the words then.
func (d *desk) noteSites(ctx context.Context, hub *api.Client, words map[bundle.SiteID]string) {
	known, err := openKnown("")
	if err == nil {
		var version api.Version
		if version, err = hub.Version(ctx); err == nil {
			for site, said := range words {
				known.note(version.Fleet, site, said)
			}
			err = known.save(d)
		}
	}
	if err != nil {
		d.sayf("warning: the words are not noted for holdfast secret: %v", err)
	}
}
