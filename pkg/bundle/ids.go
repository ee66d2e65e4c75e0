package bundle

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// Name is a bundle's name: a DNS label of at most 63 characters.
type Name string

// Version is a bundle's version: a semantic version without a leading "v" (semver.org 2.0.0).
type Version string

// Digest names bytes by their SHA-256: "sha256:" and 64 lower-case hex digits.
type Digest string

// Counter is the release counter of a bundle name. It only grows; going back means publishing old content under a higher counter.
type Counter uint64

// SiteID is the hub's name for a site: a DNS label of 2 to 63 characters, given by the hub, never claimed by the client.
type SiteID string

// Ref names a bundle at a version, written name@version.
type Ref struct {
	Name    Name    `json:"name"`
	Version Version `json:"version"`
}

func (r Ref) String() string { return string(r.Name) + "@" + string(r.Version) }

var (
	labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	sitePattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])$`)
	// semverPattern is the expression semver.org suggests, with the length bounded by ParseVersion.
	semverPattern = regexp.MustCompile(`^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?(?:\+([0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*))?$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// ParseName checks s to be a bundle name.
func ParseName(s string) (Name, error) {
	if !labelPattern.MatchString(s) {
		return "", fmt.Errorf("bundle name %.80q: want lower-case letters, digits and inner dashes, at most 63 characters", s)
	}
	return Name(s), nil
}

// ParseVersion checks s to be a semantic version of at most 64 characters.
func ParseVersion(s string) (Version, error) {
	if len(s) > 64 || !semverPattern.MatchString(s) {
		return "", fmt.Errorf("version %.80q: want a semantic version such as 1.4.2 or 2.0.0-rc.1, at most 64 characters", s)
	}
	return Version(s), nil
}

// ParseDigest checks s to be a digest.
func ParseDigest(s string) (Digest, error) {
	if !digestPattern.MatchString(s) {
		return "", fmt.Errorf("digest %.80q: want sha256: and 64 lower-case hex digits", s)
	}
	return Digest(s), nil
}

// ParseSiteID checks s to be a site's name.
func ParseSiteID(s string) (SiteID, error) {
	if !sitePattern.MatchString(s) {
		return "", fmt.Errorf("site %.80q: want 2 to 63 lower-case letters, digits and inner dashes", s)
	}
	return SiteID(s), nil
}

// ParseRef splits name@version.
func ParseRef(s string) (Ref, error) {
	n, v, ok := strings.Cut(s, "@")
	if !ok {
		return Ref{}, fmt.Errorf("bundle reference %.120q: want name@version, for example shop@1.4.2", s)
	}
	name, err := ParseName(n)
	if err != nil {
		return Ref{}, err
	}
	version, err := ParseVersion(v)
	if err != nil {
		return Ref{}, err
	}
	return Ref{name, version}, nil
}

// DigestOf is the digest of b.
func DigestOf(b []byte) Digest {
	sum := sha256.Sum256(b)
	return Digest("sha256:" + hex.EncodeToString(sum[:]))
}

// Hex is the digest without its algorithm, as it stands in subjects and record keys.
func (d Digest) Hex() string { return strings.TrimPrefix(string(d), "sha256:") }

// Short is the first twelve hex digits, for people.
func (d Digest) Short() string {
	h := d.Hex()
	if len(h) > 12 {
		h = h[:12]
	}
	return h
}
