package sync

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

func carried(t testing.TB) []byte {
	var b bytes.Buffer
	add, err := WriteCarried(&b, "shop-1")
	if err := errors.Join(err, add(CarriedAssignment, []byte("assignment")), add(CarriedBundle, []byte("bundle"))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestP07_CarriedFilesAreBoundedBeforeTheyAreRead(t *testing.T) {
	whole := carried(t)
	read := func(raw []byte) (sections int, err error) {
		err = ReadCarried(bytes.NewReader(raw), func(site bundle.SiteID, _ CarriedKind, data []byte) error {
			if sections++; site != "shop-1" || len(data) == 0 {
				t.Errorf("site %s, %q", site, data)
			}
			return nil
		})
		return sections, err
	}
	if n, err := read(whole); n != 2 || err != nil {
		t.Errorf("%d sections, %v", n, err)
	}
	boundaries := 0
	for cut := range whole {
		if _, err := read(whole[:cut]); err == nil {
			boundaries++
		}
	}
	if boundaries != 2 { // after the name, and after the assignment: what is there is whole
		t.Errorf("%d of its beginnings are whole files", boundaries)
	}
	site := len(carriedMagic) + 8 + len("shop-1")
	for what, bad := range map[string][]byte{
		"unknown kind":   append(bytes.Clone(whole[:site]), 0, 0, 0, 9, 0, 0, 0, 1, 'x'),
		"too long":       append(bytes.Clone(whole[:site]), 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff),
		"nothing in it":  append(bytes.Clone(whole[:site]), 0, 0, 0, 2, 0, 0, 0, 0),
		"site twice":     append(bytes.Clone(whole), whole[len(carriedMagic):site]...),
		"no site":        append([]byte(carriedMagic), whole[site:]...),
		"hostile site":   append([]byte(carriedMagic), 0, 0, 0, 1, 0, 0, 0, 3, '*', '.', '>'),
		"something else": []byte("PK\x03\x04 an archive"),
	} {
		if _, err := read(bad); err == nil {
			t.Errorf("%s was read", what)
		}
	}
}

// A file over the limit is refused where it goes over, and not read as if it ended there.
func TestP07_ACarriedFileOverTheLimitIsRefused(t *testing.T) {
	var b bytes.Buffer
	add, err := WriteCarried(&b, "shop-1")
	head := b.Len()
	if err := errors.Join(err, add(CarriedTrust, make([]byte, MaxMessage))); err != nil {
		t.Fatal(err)
	}
	section := b.Bytes()[head:]
	fits := (MaxCarried - head) / len(section)
	read := func(sections int) (visited int, err error) {
		parts := []io.Reader{bytes.NewReader(b.Bytes()[:head])}
		for range sections {
			parts = append(parts, bytes.NewReader(section))
		}
		err = ReadCarried(io.MultiReader(parts...), func(bundle.SiteID, CarriedKind, []byte) error { visited++; return nil })
		return visited, err
	}
	if n, err := read(fits); n != fits || err != nil {
		t.Errorf("%d of %d sections that fit, %v", n, fits, err)
	}
	if n, err := read(fits + 1); n != fits || err == nil || !strings.Contains(err.Error(), "it has more than") {
		t.Errorf("%d of %d sections that fit, %v", n, fits, err)
	}
}

func FuzzReadCarried(f *testing.F) {
	f.Add(carried(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		total := 0
		_ = ReadCarried(bytes.NewReader(raw), func(_ bundle.SiteID, kind CarriedKind, data []byte) error {
			if total += len(data); len(data) > maxCarried[kind] || total > len(raw) {
				t.Errorf("%d bytes of kind %d from a file of %d", len(data), kind, len(raw))
			}
			return nil
		})
	})
}
