package device

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/wholefile"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Files in the data folder, all 0600. The site file here holds no seed.
const (
	seedFile       = "site.seed"
	siteFile       = "site.json"
	credentialFile = "credential.jwt"
)

// Home is where a device keeps its identity: the data folder, and the file with the key that seals the seed.
type Home struct {
	Dir     string
	KeyFile string // at least 16 bytes; empty: the seed is kept as it is, readable by the agent's user alone
}

// Limits of files, in bytes.
const (
	minKeyFile = 16
	maxKeyFile = 4 << 10
	maxSeed    = 4 << 10
	maxSite    = 1 << 20
	maxJWT     = 64 << 10
)

// sealedBegin marks a seed that is sealed: the rest is nonce and AES-256-GCM ciphertext.
const sealedBegin = "holdfast-sealed-seed/v1\n"

// key is the device's own: made here at first, and never sent anywhere.
type key struct {
	seed    string // NATS user seed
	private ed25519.PrivateKey
	public  ed25519.PublicKey
}

// key reads the device's key, or makes it. A crash while it is made leaves none, and the next start makes another.
func (h Home) key() (key, error) {
	if err := os.MkdirAll(h.Dir, 0o700); err != nil {
		return key{}, fmt.Errorf("data folder: %w", err)
	}
	path := filepath.Join(h.Dir, seedFile)
	raw, err := wholefile.Read(path, maxSeed)
	if errors.Is(err, fs.ErrNotExist) {
		return h.makeKey(path)
	}
	if err != nil {
		return key{}, fmt.Errorf("the device's key: %w", err)
	}
	seed, err := h.unseal(raw)
	if err != nil {
		return key{}, fmt.Errorf("the device's key %s: %w", path, err)
	}
	return keyOf(seed)
}

func (h Home) makeKey(path string) (key, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return key{}, fmt.Errorf("the device's key: %w", err)
	}
	seed, err := pair.Seed()
	if err != nil {
		return key{}, fmt.Errorf("the device's key: %w", err)
	}
	sealed, err := h.seal(seed)
	if err != nil {
		return key{}, fmt.Errorf("the device's key: %w", err)
	}
	if err := wholefile.Replace(path, sealed, 0o600); err != nil {
		return key{}, fmt.Errorf("the device's key: %w", err)
	}
	return keyOf(seed)
}

func keyOf(seed []byte) (key, error) {
	kind, raw, err := nkeys.DecodeSeed(seed)
	if err != nil || kind != nkeys.PrefixByteUser {
		return key{}, errors.New("the device's key: not the seed of a user")
	}
	private := ed25519.NewKeyFromSeed(raw)
	return key{string(seed), private, private.Public().(ed25519.PublicKey)}, nil
}

func (h Home) seal(seed []byte) ([]byte, error) {
	if h.KeyFile == "" {
		return append(bytes.Clone(seed), '\n'), nil
	}
	aead, err := h.cipher()
	if err != nil {
		return nil, err
	}
	nonce := make([]byte, aead.NonceSize())
	if _, err := rand.Read(nonce); err != nil {
		return nil, err
	}
	return append([]byte(sealedBegin), aead.Seal(nonce, nonce, seed, []byte(sealedBegin))...), nil
}

func (h Home) unseal(raw []byte) ([]byte, error) {
	sealed, isSealed := bytes.CutPrefix(raw, []byte(sealedBegin))
	if !isSealed {
		return bytes.TrimSpace(raw), nil
	}
	if h.KeyFile == "" {
		return nil, hinted{errors.New("it is sealed"), "give the file that it was sealed with: --identity-key-file FILE"}
	}
	aead, err := h.cipher()
	if err != nil {
		return nil, err
	}
	if len(sealed) < aead.NonceSize() {
		return nil, errors.New("it is cut short")
	}
	seed, err := aead.Open(nil, sealed[:aead.NonceSize()], sealed[aead.NonceSize():], []byte(sealedBegin))
	if err != nil {
		return nil, hinted{errors.New("it cannot be unsealed: damaged, or sealed with another key"), "give the file that it was sealed with: --identity-key-file FILE"}
	}
	return seed, nil
}

func (h Home) cipher() (cipher.AEAD, error) {
	secret, err := wholefile.Read(h.KeyFile, maxKeyFile)
	if err != nil {
		return nil, fmt.Errorf("identity key file: %w", err)
	}
	if len(secret) < minKeyFile {
		return nil, fmt.Errorf("identity key file %s: %d bytes: want %d or more", h.KeyFile, len(secret), minKeyFile)
	}
	derived, err := hkdf.Key(sha256.New, secret, nil, "holdfast identity", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// load reads the site file of an enrolled device; nil where it is not enrolled yet.
func (h Home) load(k key) (*fleetsync.SiteFile, error) {
	path := filepath.Join(h.Dir, siteFile)
	raw, err := wholefile.Read(path, maxSite)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("site file: %w", err)
	}
	var site fleetsync.SiteFile
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&site); err != nil {
		return nil, fmt.Errorf("site file %s: %w", path, err)
	}
	if site.Schema != fleetsync.SiteFileSchema {
		return nil, fmt.Errorf("site file %s: schema %.80q: want %s", path, site.Schema, fleetsync.SiteFileSchema)
	}
	if err := enrol.CheckCredential(site.JWT, site.Site, k.public); err != nil {
		return nil, hinted{fmt.Errorf("site file %s: %w", path, err), "the folder holds the parts of two devices; clear it and enrol again"}
	}
	site.Seed = k.seed
	return &site, nil
}

// save keeps the site file, without the seed.
func (h Home) save(site fleetsync.SiteFile) error {
	site.Seed = ""
	raw, err := json.MarshalIndent(site, "", "  ")
	if err != nil {
		return fmt.Errorf("site file: encode: %w", err)
	}
	return wholefile.Replace(filepath.Join(h.Dir, siteFile), append(raw, '\n'), 0o600)
}

// Newest puts the credential that was renewed last into the site file, where there is one for this very site and key that lives longer.
func (h Home) Newest(site *fleetsync.SiteFile) error {
	raw, err := wholefile.Read(filepath.Join(h.Dir, credentialFile), maxJWT)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("renewed credential: %w", err)
	}
	k, err := keyOf([]byte(site.Seed))
	if err != nil {
		return err
	}
	token := strings.TrimSpace(string(raw))
	renewed, err := enrol.LifeOf(token)
	// What is not for this site, or damaged, is of an earlier one in this folder: the site file has what is needed to renew.
	if err != nil || enrol.CheckCredential(token, site.Site, k.public) != nil {
		return nil
	}
	given, err := enrol.LifeOf(site.JWT)
	if err != nil {
		return fmt.Errorf("site file: %w", err)
	}
	if renewed.Issued.After(given.Issued) {
		site.JWT = token
	}
	return nil
}

func (h Home) keepCredential(token string) error {
	return wholefile.Replace(filepath.Join(h.Dir, credentialFile), []byte(token+"\n"), 0o600)
}

// hinted is an error with a hint for whoever started the agent.
type hinted struct {
	error
	hint string
}

// Hint says what to do.
func (h hinted) Hint() string  { return h.hint }
func (h hinted) Unwrap() error { return h.error }
