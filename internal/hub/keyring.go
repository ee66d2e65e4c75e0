package hub

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/wholefile"
)

// keyring is the directory of the hub's secrets: each file is made at first start, 0600, and never changed after.
type keyring struct{ dir string }

// openKeyring makes the directory (0700) where it is missing and finds out whether it can be written.
func openKeyring(dataDir string) (keyring, error) {
	dir := filepath.Join(dataDir, "keys")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keyring{}, fmt.Errorf("data directory %s: cannot keep keys there: %w", dataDir, wholefile.Cause(err))
	}
	probe, err := os.CreateTemp(dir, ".probe-*")
	if err != nil {
		return keyring{}, fmt.Errorf("data directory %s: cannot be written: %w", dataDir, wholefile.Cause(err))
	}
	probe.Close()
	if err := os.Remove(probe.Name()); err != nil {
		return keyring{}, fmt.Errorf("data directory %s: cannot be written: %w", dataDir, wholefile.Cause(err))
	}
	return keyring{dir}, nil
}

// once gives the file's bytes, made by create and written durably where it is missing.
func (k keyring) once(name string, create func() ([]byte, error)) ([]byte, error) {
	path := filepath.Join(k.dir, name)
	data, err := os.ReadFile(path)
	if err == nil {
		return data, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("key file %s: %w", path, wholefile.Cause(err))
	}
	if data, err = create(); err != nil {
		return nil, fmt.Errorf("key file %s: %w", path, err)
	}
	return data, wholefile.Replace(path, data, 0o600)
}

// siteKey is the raw key of a NATS user key ("U…").
func siteKey(name string) (ed25519.PublicKey, error) {
	if !nkeys.IsValidPublicUserKey(name) {
		return nil, errors.New(`want a NATS user key ("U…")`)
	}
	raw, err := nkeys.Decode(nkeys.PrefixByteUser, []byte(name))
	if err != nil {
		return nil, err
	}
	return ed25519.PublicKey(raw), nil
}

// doorkeeper knows the hash of the admin token and not the token.
type doorkeeper struct{ hash [sha256.Size]byte }

// admits says whether the token is the admin's, in time that does not depend on where they differ.
func (d doorkeeper) admits(token string) bool {
	hash := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(hash[:], d.hash[:]) == 1
}

const (
	tokenFile = "admin-token.sha256"
	// ContextFileName is the file in the data directory that tells the CLI where the hub is and how to get in.
	ContextFileName = "admin.context.json"
)

// doorkeeper reads the token's hash, or makes a token: it is written into the context file and nowhere else, once.
// At a later start the file is only brought up to date, if it is still there and still the admin's.
func (k keyring) doorkeeper(dataDir, url, ca string) (keeper doorkeeper, written bool, err error) {
	path := filepath.Join(dataDir, ContextFileName)
	raw, err := os.ReadFile(filepath.Join(k.dir, tokenFile))
	if errors.Is(err, fs.ErrNotExist) {
		return k.makeToken(path, url, ca)
	}
	if err != nil {
		return doorkeeper{}, false, fmt.Errorf("key file %s: %w", tokenFile, wholefile.Cause(err))
	}
	hash, err := hex.DecodeString(strings.TrimSpace(string(raw)))
	if err != nil || len(hash) != sha256.Size {
		return doorkeeper{}, false, fmt.Errorf("key file %s: want %d hex digits", tokenFile, 2*sha256.Size)
	}
	copy(keeper.hash[:], hash)
	var context api.ContextFile
	if raw, err = os.ReadFile(path); err == nil && json.Unmarshal(raw, &context) == nil && keeper.admits(context.Token) && (context.URL != url || context.CA != ca) {
		context.URL, context.CA = url, ca
		return keeper, false, writeContext(path, context)
	}
	return keeper, false, nil
}

func (k keyring) makeToken(path, url, ca string) (keeper doorkeeper, written bool, err error) {
	token := "hfa_" + rand.Text() + rand.Text() // 26 characters of 5 bits each: 260 bits
	keeper.hash = sha256.Sum256([]byte(token))
	if err := writeContext(path, api.ContextFile{URL: url, CA: ca, Token: token}); err != nil {
		return doorkeeper{}, false, err
	}
	// The hash comes last: a crash in between makes a new token at the next start, and the file is written over.
	return keeper, true, wholefile.Replace(filepath.Join(k.dir, tokenFile), []byte(hex.EncodeToString(keeper.hash[:])+"\n"), 0o600)
}

func writeContext(path string, context api.ContextFile) error {
	raw, err := json.MarshalIndent(context, "", "  ")
	if err != nil {
		return fmt.Errorf("file %s: encode: %w", path, err)
	}
	return wholefile.Replace(path, append(raw, '\n'), 0o600)
}

// portOf is the port an address listens on.
func portOf(address net.Addr) string {
	_, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return ""
	}
	return port
}
