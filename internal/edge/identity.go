package edge

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/nats-io/nkeys"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/wholefile"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// maxSiteFile bounds a site file, in bytes.
const maxSiteFile = 1 << 20

// identity is what a site file says, read and checked.
type identity struct {
	file  *fleetsync.SiteFile
	trust *Belief
	key   ed25519.PrivateKey
	ca    *x509.CertPool
}

// identify reads a site file. It holds a secret, so its words never stand in an error.
func identify(name string, log *zap.Logger) (*identity, error) {
	raw, err := readSiteFile(name, log)
	if err != nil {
		return nil, err
	}
	site, err := decodeSiteFile(raw)
	if err != nil {
		return nil, err
	}
	return checked(site, log)
}

// checked reads what a site file holds in other encodings.
func checked(site *fleetsync.SiteFile, log *zap.Logger) (who *identity, err error) {
	who = &identity{file: site, ca: x509.NewCertPool()}
	if who.key, err = keyOf(site); err != nil {
		return nil, err
	}
	if who.trust, err = NewBelief(site.Trust, who.key, log); err != nil {
		return nil, err
	}
	if !who.ca.AppendCertsFromPEM([]byte(site.CA)) {
		return nil, errors.New("ca: there is no certificate in it")
	}
	return who, nil
}

// readSiteFile also warns where others than its owner may read the file.
func readSiteFile(name string, log *zap.Logger) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, wholefile.Cause(err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		log.Warn("the site file holds a secret and others may read it: chmod 600", zap.String("file", name), zap.Stringer("mode", mode))
	}
	raw, err := wholefile.Read(name, maxSiteFile)
	return raw, wholefile.Cause(err)
}

func decodeSiteFile(raw []byte) (*fleetsync.SiteFile, error) {
	var schema struct {
		Schema string `json:"schema"`
	}
	if err := json.Unmarshal(raw, &schema); err != nil {
		return nil, errors.New("it is not a site file: it is no JSON object, or is cut off")
	}
	if schema.Schema != fleetsync.SiteFileSchema {
		return nil, fmt.Errorf("schema %.80q: want %s", schema.Schema, fleetsync.SiteFileSchema)
	}
	var site fleetsync.SiteFile
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&site); err != nil {
		return nil, err
	}
	if _, err := bundle.ParseSiteID(string(site.Site)); err != nil {
		return nil, err
	}
	if len(site.Servers) == 0 {
		return nil, errors.New("servers: want one at least: tls://host:port")
	}
	for _, server := range site.Servers {
		if err := link.CheckServer(server); err != nil {
			return nil, fmt.Errorf("servers: %w", err)
		}
	}
	return &site, nil
}

// keyOf takes the site's Ed25519 key out of its NATS encoding.
func keyOf(site *fleetsync.SiteFile) (ed25519.PrivateKey, error) {
	kind, seed, err := nkeys.DecodeSeed([]byte(site.Seed))
	if err != nil || kind != nkeys.PrefixByteUser {
		return nil, errors.New(`seed: want the seed of a NATS user ("SU…")`)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}
