package vault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/storekey"
)

func made(t *testing.T) Key {
	t.Helper()
	k, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeysAreSealedByARingAndFollowItsRotation(t *testing.T) {
	k, ring := made(t), storekey.Fresh()
	file, err := k.SealBy(ring)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(file, []byte("AGE-SECRET")) {
		t.Error("the key stands in its file")
	}
	for name, c := range map[string]struct {
		ring  storekey.Ring
		first bool
	}{"its own": {ring, true}, "in the middle of a rotation": {ring.Next(), false}} {
		opened, first, err := OpenBy(c.ring, file)
		if err != nil || first != c.first || opened.Secret() != k.Secret() || opened.Store() != k.Store() {
			t.Errorf("%s: %v, %t, %v", name, opened, first, err)
		}
	}
	if _, _, err := OpenBy(storekey.Fresh(), file); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("another ring: %v", err)
	}
	if _, err := k.SealBy(storekey.Ring{}); err == nil {
		t.Error("sealed by nothing")
	}
	for i := range file {
		changed := bytes.Clone(file)
		changed[i] ^= 1
		if opened, _, err := OpenBy(ring, changed); err == nil && opened.Secret() != k.Secret() {
			t.Fatalf("byte %d changed: another key", i)
		}
	}
}

func TestWhatIsSealedOpensWholeOrNotAtAll(t *testing.T) {
	k, text := made(t), strings.Repeat("what a backup holds ", 10_000)
	var out bytes.Buffer
	w, err := k.Seal(&out)
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(out.Bytes(), []byte("backup holds")) {
		t.Error("it is in the clear")
	}
	read := func(k Key, sealed []byte) (string, error) {
		r, err := k.Open(bytes.NewReader(sealed))
		if err != nil {
			return "", err
		}
		raw, err := io.ReadAll(r)
		return string(raw), err
	}
	if back, err := read(k, out.Bytes()); err != nil || back != text {
		t.Errorf("%d bytes, %v", len(back), err)
	}
	if _, err := read(made(t), out.Bytes()); err == nil {
		t.Error("another key opens it")
	}
	if _, err := read(k, out.Bytes()[:out.Len()-100]); err == nil {
		t.Error("its end is missing and nobody says so")
	}
	changed := bytes.Clone(out.Bytes())
	changed[len(changed)/2] ^= 1
	if _, err := read(k, changed); err == nil {
		t.Error("a changed byte is not noticed")
	}
}

// T16: a key does not show itself.
func TestT16_AHubsKeyDoesNotShow(t *testing.T) {
	k := made(t)
	for _, shown := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s", k, &k, k)} {
		if strings.Contains(shown, "AGE-SECRET") {
			t.Error(shown)
		}
	}
	if _, err := Parse(k.Secret() + "x"); err == nil || strings.Contains(err.Error(), k.Secret()) {
		t.Errorf("%v", err)
	}
	if again, err := Parse(k.Secret() + "\n"); err != nil || again.Name() != k.Name() {
		t.Errorf("%v, %v", again, err)
	}
}

func FuzzOpenBy(f *testing.F) {
	ring, err := storekey.Parse([]byte("correct-horse-battery-staple"))
	if err != nil {
		f.Fatal(err)
	}
	// Each of the fuzzer's processes comes by here: they have one key.
	k, err := Parse("AGE-SECRET-KEY-13AKDE4DTW6WU3M57Y0U7W4XQMZ7C6TMEE4QLCHXYM42V6G3MYWLS4VSRVF")
	if err != nil {
		f.Fatal(err)
	}
	file, err := k.SealBy(ring)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Add([]byte(`{"schema":"holdfast.dev/hub-key/v1","by":"","sealed":"AAAA"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if opened, _, err := OpenBy(ring, raw); err == nil && opened.Secret() != k.Secret() {
			t.Error("a key that nobody sealed")
		}
	})
}
