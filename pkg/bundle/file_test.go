package bundle

import (
	"bytes"
	"strings"
	"testing"
)

func TestFileComesBackWhole(t *testing.T) {
	for _, signatures := range [][][]byte{nil, {[]byte("{}")}, {[]byte("{1}"), []byte("{2}")}} {
		f := &File{Manifest: []byte("manifest"), Signatures: signatures, Content: []byte("content")}
		b, err := EncodeFile(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeFile(b)
		if err != nil {
			t.Fatal(err)
		}
		if string(got.Manifest) != "manifest" || string(got.Content) != "content" || len(got.Signatures) != len(signatures) {
			t.Errorf("got %q", got)
		}
		for n := range b {
			if _, err := DecodeFile(b[:n]); err == nil {
				t.Errorf("cut to %d bytes it still passes", n)
			}
		}
		if _, err := DecodeFile(append(b, 0)); err == nil || !strings.Contains(err.Error(), "after the end") {
			t.Errorf("trailing byte: %v", err)
		}
	}
}

func TestT11_FileRefusesWhatIsTooLarge(t *testing.T) {
	good := func() *File { return &File{Manifest: []byte("m"), Content: []byte("c")} }
	for name, change := range map[string]func(*File){
		"no manifest":     func(f *File) { f.Manifest = nil },
		"no content":      func(f *File) { f.Content = nil },
		"manifest":        func(f *File) { f.Manifest = make([]byte, MaxManifestSize+1) },
		"content":         func(f *File) { f.Content = make([]byte, MaxPackedSize+1) },
		"signature":       func(f *File) { f.Signatures = [][]byte{make([]byte, MaxSignatureSize+1)} },
		"empty signature": func(f *File) { f.Signatures = [][]byte{nil} },
		"nine signatures": func(f *File) { f.Signatures = bytes.Split(bytes.Repeat([]byte("s"), 9), nil) },
	} {
		f := good()
		change(f)
		if _, err := EncodeFile(f); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	for name, tail := range map[string]string{
		"manifest of 4 GiB":  "\xff\xff\xff\xff",
		"signatures":         "\x00\x00\x00\x01m\xff\xff\xff\xff",
		"signature of 4 GiB": "\x00\x00\x00\x01m\x00\x00\x00\x01\xff\xff\xff\xff",
		"other magic":        "",
	} {
		b := []byte(fileMagic + tail)
		if tail == "" {
			b = []byte("holdfast bundle 2\n")
		}
		if _, err := DecodeFile(b); err == nil {
			t.Errorf("%s: read", name)
		}
	}
}

func FuzzDecodeFile(f *testing.F) {
	b, err := EncodeFile(&File{Manifest: []byte("m"), Signatures: [][]byte{[]byte("s")}, Content: []byte("c")})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := DecodeFile(b)
		if err != nil {
			return
		}
		again, err := EncodeFile(file)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q comes back as %q, %v", b, again, err)
		}
	})
}
