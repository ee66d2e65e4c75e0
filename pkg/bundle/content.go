package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// NewObject reads the identity of one object in canonical JSON and checks its form (B3). The object keeps b.
func NewObject(b []byte) (Object, error) {
	if len(b) > MaxObjectSize {
		return Object{}, fmt.Errorf("object of %d bytes, more than the %d allowed", len(b), MaxObjectSize)
	}
	if len(b) == 0 || b[0] != '{' {
		return Object{}, errors.New("not a JSON object")
	}
	var h header
	if err := scanCanonical(b, h.visit); err != nil {
		return Object{}, err
	}
	if err := h.check(); err != nil {
		return Object{}, err
	}
	return Object{ID: h.id, Version: h.version, JSON: b}, nil
}

// header is what the scanner saw of an object's identity.
type header struct {
	id         ObjectID
	version    string
	apiVersion string
	items      bool // the object has a list "items" at the top
	err        error
}

func (h *header) visit(parent, key, value []byte) {
	switch {
	case parent == nil:
		h.visitTop(string(key), value)
	case string(parent) == "metadata":
		switch string(key) {
		case "name":
			h.id.Name = h.text("metadata.name", value)
		case "namespace":
			h.id.Namespace = h.text("metadata.namespace", value)
		case "generateName":
			h.fail(errors.New("metadata.generateName: an object of a bundle has a name of its own"))
		default:
			h.refuseCase("metadata.", string(key), "name", "namespace")
		}
	}
}

func (h *header) visitTop(key string, value []byte) {
	switch key {
	case "apiVersion":
		h.apiVersion = h.text(key, value)
	case "kind":
		h.id.Kind = h.text(key, value)
	case "items":
		h.items = value[0] == '['
	default:
		h.refuseCase("", key, "apiVersion", "kind", "metadata")
	}
}

func (h *header) fail(err error) {
	if h.err == nil {
		h.err = err
	}
}

func (h *header) text(field string, value []byte) string {
	if value[0] != '"' {
		h.fail(fmt.Errorf("%s: not a string", field))
		return ""
	}
	return string(unescape(value[1 : len(value)-1]))
}

// refuseCase refuses a key that a reader which does not tell upper case from lower would take for an identity (T13).
func (h *header) refuseCase(at, key string, identities ...string) {
	for _, identity := range identities {
		if key != identity && strings.EqualFold(key, identity) {
			h.fail(fmt.Errorf("key %q: it is written %s%s", at+key, at, identity))
		}
	}
}

var (
	kindPattern    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{0,62}$`)
	versionPattern = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

func (h *header) check() error {
	if h.err != nil {
		return h.err
	}
	if h.apiVersion == "" {
		return errors.New("without apiVersion")
	}
	if h.id.Kind == "" {
		return errors.New("without kind")
	}
	group, version, grouped := strings.Cut(h.apiVersion, "/")
	if !grouped {
		group, version = "", h.apiVersion
	}
	if !versionPattern.MatchString(version) || (grouped && (len(group) > 253 || !dnsDomain.MatchString(group))) {
		return fmt.Errorf("apiVersion %.80q: want a version, or group/version", h.apiVersion)
	}
	h.id.Group, h.version = group, version
	if !kindPattern.MatchString(h.id.Kind) {
		return fmt.Errorf("kind %.80q: want a letter and then letters, digits and dashes, at most 63", h.id.Kind)
	}
	if h.id.Kind == "List" || (h.items && strings.HasSuffix(h.id.Kind, "List")) {
		return fmt.Errorf("kind %s: a list is not an object", h.id.Kind)
	}
	return h.id.check()
}

// check wants names that can stand in a request's path. The API server knows the rules of each kind.
func (o ObjectID) check() error {
	if o.Name == "" {
		return fmt.Errorf("%s without metadata.name", o.Kind)
	}
	unsafe := func(r rune) bool { return r <= ' ' || r == '/' || r == '%' || r == '\\' || r >= 0x7f }
	if len(o.Name) > 253 || o.Name == "." || o.Name == ".." || strings.ContainsFunc(o.Name, unsafe) {
		return fmt.Errorf("%s: metadata.name %.80q: want at most 253 printable ASCII characters without '/', '%%', '\\' and spaces", o.Kind, o.Name)
	}
	if o.Namespace != "" && !labelPattern.MatchString(o.Namespace) {
		return fmt.Errorf("%s/%s: metadata.namespace %.80q: want lower-case letters, digits and inner dashes, at most 63 characters", o.Kind, o.Name, o.Namespace)
	}
	return nil
}

// EncodeContent sorts the objects and joins them to content. It refuses what DecodeContent would refuse; it leaves the slice as it is.
func EncodeContent(objects []Object) ([]byte, error) {
	if len(objects) == 0 || len(objects) > MaxObjects {
		return nil, fmt.Errorf("content: %d objects, want 1 to %d", len(objects), MaxObjects)
	}
	sorted := make([]Object, len(objects))
	size := 0
	for i, o := range objects {
		object, err := NewObject(o.JSON)
		if err != nil {
			return nil, fmt.Errorf("content: %s: %w", o.ID, err)
		}
		if object.ID != o.ID || object.Version != o.Version {
			return nil, fmt.Errorf("content: %s: its JSON says it is %s", o.ID, object.ID)
		}
		sorted[i] = object
		if size += len(o.JSON) + 1; size > MaxContentSize {
			return nil, fmt.Errorf("content: more than the %d bytes allowed", MaxContentSize)
		}
	}
	slices.SortFunc(sorted, func(a, b Object) int { return CompareIDs(a.ID, b.ID) })
	content := make([]byte, 0, size)
	for i, o := range sorted {
		if i > 0 && o.ID == sorted[i-1].ID {
			return nil, fmt.Errorf("content: %s stands in it twice", o.ID)
		}
		content = append(append(content, o.JSON...), '\n')
	}
	return content, nil
}

// DecodeContent reads the content that info commits to, and refuses every other (B2, B3). The objects' JSON shares content's memory.
func DecodeContent(content []byte, info ContentInfo) ([]Object, error) {
	if err := info.check(); err != nil {
		return nil, err
	}
	if int64(len(content)) != info.Size {
		return nil, fmt.Errorf("content: %d bytes, the manifest says %d", len(content), info.Size)
	}
	if got := DigestOf(content); got != info.Digest {
		return nil, fmt.Errorf("content: digest %s, the manifest says %s", got, info.Digest)
	}
	objects := make([]Object, 0, info.Objects)
	for rest := content; len(rest) > 0; {
		end := bytes.IndexByte(rest, '\n')
		line := len(objects) + 1
		if end < 0 {
			return nil, fmt.Errorf("content: line %d does not end with a newline", line)
		}
		if line > info.Objects {
			return nil, fmt.Errorf("content: more lines than the %d the manifest says", info.Objects)
		}
		object, err := NewObject(rest[:end:end])
		if err != nil {
			return nil, fmt.Errorf("content: line %d: %w", line, err)
		}
		if len(objects) > 0 {
			last := objects[len(objects)-1].ID
			if order := CompareIDs(last, object.ID); order == 0 {
				return nil, fmt.Errorf("content: line %d: %s stands in it twice", line, object.ID)
			} else if order > 0 {
				return nil, fmt.Errorf("content: line %d: %s stands after %s, which comes later", line, object.ID, last)
			}
		}
		objects = append(objects, object)
		rest = rest[end+1:]
	}
	if len(objects) != info.Objects {
		return nil, fmt.Errorf("content: %d lines, the manifest says %d", len(objects), info.Objects)
	}
	return objects, nil
}

// ContentDigest is the digest of the content that sorted objects make, without making it.
func ContentDigest(sorted []Object) Digest {
	h := sha256.New()
	for _, o := range sorted {
		h.Write(o.JSON)
		h.Write([]byte{'\n'})
	}
	return Digest("sha256:" + hex.EncodeToString(h.Sum(nil)))
}
