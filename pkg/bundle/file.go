package bundle

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// File is a bundle as it is carried in one file. Decoding one verifies nothing: the manifest's signatures and the content's
// digest are checked by pkg/verify.
type File struct {
	Manifest   []byte   // exactly as it is signed
	Signatures [][]byte // Sigstore bundles (JSON) over Manifest, 0 to MaxSignatures
	Content    []byte   // compressed (pkg/bundle/wire)
}

const fileMagic = "holdfast bundle 1\n"

// EncodeFile writes f as described in the package comment.
func EncodeFile(f *File) ([]byte, error) {
	if err := f.check(); err != nil {
		return nil, fmt.Errorf("bundle file: %w", err)
	}
	size := len(fileMagic) + 12 + len(f.Manifest) + len(f.Content)
	for _, s := range f.Signatures {
		size += 4 + len(s)
	}
	b := append(make([]byte, 0, size), fileMagic...)
	b = appendSection(b, f.Manifest)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Signatures)))
	for _, s := range f.Signatures {
		b = appendSection(b, s)
	}
	return appendSection(b, f.Content), nil
}

// DecodeFile reads a bundle file. The result shares b's memory.
func DecodeFile(b []byte) (*File, error) {
	if len(b) < len(fileMagic) || string(b[:len(fileMagic)]) != fileMagic {
		return nil, errors.New("bundle file: not a Holdfast bundle")
	}
	s := sections{rest: b[len(fileMagic):]}
	f := &File{Manifest: s.next("manifest", MaxManifestSize)}
	n := s.number("number of signatures", MaxSignatures)
	for range n {
		f.Signatures = append(f.Signatures, s.next("signature", MaxSignatureSize))
	}
	f.Content = s.next("content", MaxPackedSize)
	if s.err == nil && len(s.rest) > 0 {
		s.err = fmt.Errorf("%d bytes after the end", len(s.rest))
	}
	if s.err == nil {
		s.err = f.check()
	}
	if s.err != nil {
		return nil, fmt.Errorf("bundle file: %w", s.err)
	}
	return f, nil
}

func (f *File) check() error {
	if len(f.Signatures) > MaxSignatures {
		return fmt.Errorf("%d signatures, more than the %d allowed", len(f.Signatures), MaxSignatures)
	}
	if err := checkSection("manifest", f.Manifest, MaxManifestSize); err != nil {
		return err
	}
	for _, s := range f.Signatures {
		if err := checkSection("signature", s, MaxSignatureSize); err != nil {
			return err
		}
	}
	return checkSection("content", f.Content, MaxPackedSize)
}

func checkSection(what string, b []byte, limit int) error {
	if len(b) == 0 {
		return fmt.Errorf("%s: empty", what)
	}
	if len(b) > limit {
		return fmt.Errorf("%s: %d bytes, more than the %d allowed", what, len(b), limit)
	}
	return nil
}

func appendSection(b, section []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(section))), section...)
}

// sections reads numbers and sections until the first error.
type sections struct {
	rest []byte
	err  error
}

func (s *sections) number(what string, limit int) int {
	if s.err != nil {
		return 0
	}
	if len(s.rest) < 4 {
		s.err = fmt.Errorf("%s: the file ends before it", what)
		return 0
	}
	n := binary.BigEndian.Uint32(s.rest)
	if int64(n) > int64(limit) {
		s.err = fmt.Errorf("%s: %d, more than the %d allowed", what, n, limit)
		return 0
	}
	s.rest = s.rest[4:]
	return int(n)
}

func (s *sections) next(what string, limit int) []byte {
	n := s.number(what, limit)
	if s.err != nil {
		return nil
	}
	if len(s.rest) < n {
		s.err = fmt.Errorf("%s: the file ends after %d of %d bytes", what, len(s.rest), n)
		return nil
	}
	section := s.rest[:n:n]
	s.rest = s.rest[n:]
	return section
}
