package stream_test

import (
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, subject string
		want             bool
	}{
		{"a.b", "a.b", true},
		{"a.*", "a.b", true},
		{"a.*", "a.b.c", false},
		{"a.*.*", "a.b", false},
		{"a.>", "a.b.c", true},
		{"a.>", "a", false},
		{"*", "a", true},
		{">", "a.b", true},
		{"a.b", "a.bc", false},
		{"a.*.c", "a.b.d", false},
	} {
		if got := stream.Matches(c.pattern, c.subject); got != c.want {
			t.Errorf("%s over %s: got %v", c.pattern, c.subject, got)
		}
	}
}

func TestEverySubjectHasItsStream(t *testing.T) {
	digest := bundle.DigestOf([]byte("x"))
	for subject, want := range map[string]string{
		fleetsync.DesiredSubject("shop-1"):         stream.Desired,
		fleetsync.BundleSubject(digest):            stream.Bundles,
		fleetsync.BlobSubject(digest, 3):           stream.Blobs,
		fleetsync.DeltaSubject(digest, digest, 12): stream.Blobs,
		fleetsync.StateSubject("shop-1"):           stream.State,
		fleetsync.EventSubject("shop-1"):           stream.Events,
		fleetsync.AckSubject("shop-1"):             stream.Acks,
		"hf.site.shop-1":                           stream.Sites,
		"hf.catalog.shop.1.4.2-rc.1+5":             stream.Catalog,
	} {
		if r, err := stream.Of(subject); err != nil || r.Name != want {
			t.Errorf("%s: got %s, %v, want %s", subject, r.Name, err, want)
		}
	}
	for _, subject := range []string{"", "hf.desired.*", "hf.desired.>", "hf.desired.", "hf.desired.a b", "hf.poke.shop-1", "hf.desired.a.b"} {
		if r, err := stream.Of(subject); err == nil {
			t.Errorf("%q is in %s", subject, r.Name)
		}
	}
}

func TestT17_RightsOfASite(t *testing.T) {
	digest := bundle.DigestOf([]byte("x"))
	for _, c := range []struct {
		subject      string
		read, report bool
	}{
		{fleetsync.DesiredSubject("shop-1"), true, false},
		{fleetsync.AckSubject("shop-1"), true, false},
		{fleetsync.BundleSubject(digest), true, false},
		{fleetsync.BlobSubject(digest, 3), true, false},
		{fleetsync.DeltaSubject(digest, digest, 12), true, false},
		{fleetsync.StateSubject("shop-1"), false, true},
		{fleetsync.EventSubject("shop-1"), false, true},
		{fleetsync.DesiredSubject("shop-2"), false, false},
		{fleetsync.EventSubject("shop-2"), false, false},
		{fleetsync.EventSubject("shop-1") + ".x", false, false},
		{"hf.desired.*", false, false},
		{"hf.site.shop-1", false, false},
		{"hf.catalog.shop.1.0.0", false, false},
		{fleetsync.PokeSubject("shop-1"), false, false},
	} {
		if got := stream.MayRead("shop-1", c.subject); got != c.read {
			t.Errorf("read %s: %v", c.subject, got)
		}
		if got := stream.MayReport("shop-1", c.subject); got != c.report {
			t.Errorf("report %s: %v", c.subject, got)
		}
	}
}
