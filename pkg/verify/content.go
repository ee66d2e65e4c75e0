package verify

import (
	"fmt"
	"strconv"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Verified is a bundle whose every byte is believed. Only Signed.WithContent makes one; the zero value is not Valid and must be refused by
// whoever takes a Verified.
type Verified struct {
	signed  Signed
	content []byte
	objects []bundle.Object
}

// WithContent joins a signed manifest with its content: the size and digest it commits to are compared before the content is decoded.
// The content belongs to the result from now on and must not be changed.
func (s Signed) WithContent(content []byte) (v Verified, err error) {
	if !s.Valid() {
		return Verified{}, notVerified()
	}
	info := s.manifest.Content
	if len(content) > bundle.MaxContentSize {
		return Verified{}, s.refuse(TooLarge, "content too large", fmt.Sprintf("at most %d bytes", bundle.MaxContentSize), strconv.Itoa(len(content)))
	}
	if int64(len(content)) != info.Size {
		return Verified{}, s.refuse(ContentMismatch, "the content has another size than the manifest says",
			strconv.FormatInt(info.Size, 10)+" bytes", strconv.Itoa(len(content)))
	}
	if digest := bundle.DigestOf(content); digest != info.Digest {
		return Verified{}, s.refuse(ContentMismatch, "the content is not what the manifest commits to", string(info.Digest), string(digest))
	}
	defer func() {
		if p := recover(); p != nil {
			v, err = Verified{}, s.refuse(VerifierFailed, fmt.Sprintf("decoding the content failed: panic: %.100v", p), "", "")
		}
	}()
	objects, err := bundle.DecodeContent(content, info)
	if err != nil {
		return Verified{}, s.refuse(MalformedContent, clip(err.Error()), "", "")
	}
	return Verified{signed: s, content: content, objects: objects}, nil
}

// Valid says that it is not the zero value.
func (v Verified) Valid() bool { return v.signed.Valid() }

// Signed is the manifest's part.
func (v Verified) Signed() Signed { return v.signed }

// Manifest is a copy of the manifest, or nil of the zero value. What the copy points to is shared and must not be changed.
func (v Verified) Manifest() *bundle.Manifest { return v.signed.Manifest() }

// Digest is the digest of the manifest.
func (v Verified) Digest() bundle.Digest { return v.signed.Digest() }

// Key is the release key that signed it.
func (v Verified) Key() KeyID { return v.signed.Key() }

// Content are the verified bytes. They must not be changed.
func (v Verified) Content() []byte { return v.content }

// Objects are the objects of the content, in its order. They must not be changed.
func (v Verified) Objects() []bundle.Object { return v.objects }
