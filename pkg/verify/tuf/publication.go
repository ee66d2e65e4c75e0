package tuf

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strconv"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/holdfast-fleet/holdfast/pkg/verify/internal/strict"
)

// MaxPublication is the most bytes that an encoded Publication may have.
const MaxPublication = 16 << 20

// maxRoots is the most roots of one Publication.
const maxRoots = 4096

const publicationSchema = "holdfast.dev/trust-publication/v1"

// Publication is what the offline keys have signed: all that a hub needs to serve sites, but for what it signs itself.
type Publication struct {
	Roots   [][]byte // in order of version, without a hole
	Targets []byte   // the newest
	Fleet   []byte   // the trust document that Targets commit to
}

type published struct {
	Schema  string   `json:"schema"`
	Roots   [][]byte `json:"roots"`
	Targets []byte   `json:"targets"`
	Fleet   []byte   `json:"fleet"`
}

// EncodePublication checks sizes and writes a publication.
func EncodePublication(p Publication) ([]byte, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(published{publicationSchema, p.Roots, p.Targets, p.Fleet})
	if err != nil {
		return nil, fmt.Errorf("trust publication: encode: %w", err)
	}
	if len(raw) > MaxPublication {
		return nil, fmt.Errorf("trust publication: %w: %d bytes, at most %d", ErrTooLarge, len(raw), MaxPublication)
	}
	return raw, nil
}

// DecodePublication reads a publication of at most MaxPublication bytes. Nothing in it is believed yet.
func DecodePublication(raw []byte) (Publication, error) {
	var in published
	if err := strict.Decode(raw, MaxPublication, &in); err != nil {
		return Publication{}, fmt.Errorf("trust publication: %w: %w", ErrMalformed, err)
	}
	if in.Schema != publicationSchema {
		return Publication{}, fmt.Errorf("trust publication: %w: schema %.80q, want %s", ErrMalformed, in.Schema, publicationSchema)
	}
	p := Publication{in.Roots, in.Targets, in.Fleet}
	return p, p.check()
}

func (p Publication) check() error {
	if len(p.Roots) == 0 || len(p.Roots) > maxRoots {
		return fmt.Errorf("trust publication: %w: %d roots, want 1 to %d", ErrMalformed, len(p.Roots), maxRoots)
	}
	for _, root := range p.Roots {
		if err := OneReading(root, MaxRoot); err != nil {
			return fmt.Errorf("trust publication: root: %w", err)
		}
	}
	if err := OneReading(p.Targets, MaxTargets); err != nil {
		return fmt.Errorf("trust publication: targets: %w", err)
	}
	if len(p.Fleet) == 0 || len(p.Fleet) > MaxFleet {
		return fmt.Errorf("trust publication: fleet: %w: %d bytes, want 1 to %d", ErrTooLarge, len(p.Fleet), MaxFleet)
	}
	return nil
}

// RootVersion reads the version that a root claims.
func RootVersion(root []byte) (version int64, err error) {
	defer guardVersion(&err)
	m, err := metadata.Root().FromBytes(root)
	if err != nil {
		return 0, refused("root", err)
	}
	return m.Signed.Version, nil
}

// TargetsVersion reads the version that targets claim.
func TargetsVersion(targets []byte) (version int64, err error) {
	defer guardVersion(&err)
	m, err := metadata.Targets().FromBytes(targets)
	if err != nil {
		return 0, refused("targets", err)
	}
	return m.Signed.Version, nil
}

// guardVersion makes an error of a panic in the library.
func guardVersion(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("trust metadata: %w: panic: %.200v", ErrMalformed, p)
	}
}

var versionedFile = regexp.MustCompile(`^([1-9][0-9]{0,17})\.(root|targets)\.json$`)

// ReadRepository reads a publication from a folder that is laid out as any TUF repository: metadata/<version>.root.json,
// metadata/<version>.targets.json, targets/<sha256>.fleet.json. fs.ErrNotExist says that there is none in it.
func ReadRepository(repository fs.FS) (Publication, error) {
	entries, err := fs.ReadDir(repository, "metadata")
	if err != nil {
		return Publication{}, fmt.Errorf("trust metadata: %w", err)
	}
	versions := map[string][]int64{}
	for _, entry := range entries {
		if m := versionedFile.FindStringSubmatch(entry.Name()); m != nil {
			n, err := strconv.ParseInt(m[1], 10, 64)
			if err != nil {
				return Publication{}, fmt.Errorf("trust metadata: %s: %w", entry.Name(), err)
			}
			versions[m[2]] = append(versions[m[2]], n)
		}
	}
	roots, targets := versions[metadata.ROOT], versions[metadata.TARGETS]
	if len(roots) == 0 || len(targets) == 0 {
		return Publication{}, fmt.Errorf("trust metadata: no published root and targets: %w", fs.ErrNotExist)
	}
	slices.Sort(roots)
	var p Publication
	for _, version := range roots {
		raw, err := readFile(repository, Name(metadata.ROOT, version), MaxRoot)
		if err != nil {
			return Publication{}, err
		}
		p.Roots = append(p.Roots, raw)
	}
	if p.Targets, err = readFile(repository, Name(metadata.TARGETS, slices.Max(targets)), MaxTargets); err != nil {
		return Publication{}, err
	}
	if p.Fleet, err = fleetFile(repository, p.Targets); err != nil {
		return Publication{}, err
	}
	return p, p.check()
}

func fleetFile(repository fs.FS, targets []byte) ([]byte, error) {
	t, err := metadata.Targets().FromBytes(targets)
	if err != nil {
		return nil, refused("targets", err)
	}
	file, err := fleetOf(t)
	if err != nil {
		return nil, err
	}
	raw, err := readFile(repository, prefix+"fleet."+file.Hashes["sha256"].String(), MaxFleet)
	if err != nil {
		return nil, err
	}
	if err := file.VerifyLengthHashes(raw); err != nil {
		return nil, refused("fleet", err)
	}
	return raw, nil
}

// readFile reads what a repository holds under a name.
func readFile(repository fs.FS, name string, limit int64) ([]byte, error) {
	in, err := Path(name)
	if err != nil {
		return nil, err
	}
	f, err := repository.Open(path.Clean(in))
	if err != nil {
		return nil, fmt.Errorf("trust metadata: %w", err)
	}
	defer f.Close()
	var raw bytes.Buffer
	if _, err := io.Copy(&raw, io.LimitReader(f, limit+1)); err != nil {
		return nil, fmt.Errorf("trust metadata: %s: %w", in, err)
	}
	if int64(raw.Len()) > limit {
		return nil, fmt.Errorf("trust metadata: %s: %w: more than %d bytes", in, ErrTooLarge, limit)
	}
	return raw.Bytes(), nil
}

// Shelf is a Source in memory, over another one or over nothing.
type Shelf struct {
	Files map[string][]byte
	Below Source
}

// Get gives what the shelf holds, or what is below it.
func (s Shelf) Get(ctx context.Context, name string) ([]byte, error) {
	if raw, ok := s.Files[name]; ok {
		return raw, nil
	}
	if s.Below == nil {
		return nil, fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return s.Below.Get(ctx, name)
}
