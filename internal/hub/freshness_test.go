package hub

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// fresh says hello with a nonce and waits for a statement that carries it.
func (s *fakeSite) fresh(nonce string) fleetsync.Fresh {
	s.t.Helper()
	hello := fleetsync.Hello{Site: s.id, Epoch: "a", At: time.Now(), Nonce: nonce}
	if err := s.link.Hello(context.Background(), fleetsync.HelloSubject(s.id), sealed(s.t, fleetsync.TypeHello, hello, s.key)); err != nil {
		s.t.Fatal(err)
	}
	limit := time.After(20 * time.Second)
	for {
		select {
		case notice := <-s.link.Notices():
			var f fleetsync.Fresh
			if notice.Kind != fleetsync.LinkPoke || fleetsync.Open(fleetsync.TypeFresh, notice.Data, s.hub, &f) != nil || f.Nonce == "" {
				continue
			}
			if f.Nonce != nonce {
				s.t.Errorf("nonce %s was answered", f.Nonce)
				continue
			}
			return f
		case <-limit:
			s.t.Fatalf("site %s: no answer", s.id)
		}
	}
}

func TestT05_TheHubProvesWhatIsNewest(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	site, other := addSite(t, client, "shop-1", nil), addSite(t, client, "shop-2", nil)
	before := time.Now()
	first := site.fresh(strings.Repeat("a", fleetsync.NonceSize))
	if first.Site != "shop-1" || first.Assignment != 0 || first.Ack != nil || first.Time.Before(before.Add(-time.Minute)) {
		t.Errorf("a new site is told %+v", first)
	}
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 1, 3))
	if _, _, err := h.reassignSite(context.Background(), "shop-1", func(current fleetsync.Assignment, record SiteRecord) (fleetsync.Assignment, bool, error) {
		return successor(current, record, []fleetsync.AssignedBundle{{Name: "shop", Version: "1.0.0", Digest: bundle.DigestOf(nil)}}, time.Now())
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the answer has the acknowledgement", func() bool {
		f := site.fresh(strings.Repeat("b", fleetsync.NonceSize))
		return f.Assignment == 1 && f.Ack != nil && f.Ack.Upto == 3
	})
	// Signed by another site, without a nonce, or with one that is none: no answer. What comes is the answer to the last.
	for _, bad := range []struct {
		nonce string
		key   *fakeSite
	}{{strings.Repeat("c", fleetsync.NonceSize), other}, {"", site}, {"short", site}} {
		hello := fleetsync.Hello{Site: "shop-1", Epoch: "a", At: time.Now(), Nonce: bad.nonce}
		if err := site.link.Hello(context.Background(), fleetsync.HelloSubject("shop-1"), sealed(t, fleetsync.TypeHello, hello, bad.key.key)); err != nil {
			t.Fatal(err)
		}
	}
	if f := site.fresh(strings.Repeat("d", fleetsync.NonceSize)); f.Assignment != 1 {
		t.Errorf("got %+v", f)
	}
}
