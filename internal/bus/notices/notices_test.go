package notices_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/bus/notices"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

func TestFoldsWhatIsNotTaken(t *testing.T) {
	b := notices.New()
	defer b.Close()
	last := errors.New("last")
	for range 100 {
		b.Put(fleetsync.Notice{Kind: fleetsync.LinkUp})
		b.Put(fleetsync.Notice{Kind: fleetsync.LinkPoke})
		b.Put(fleetsync.Notice{Kind: fleetsync.LinkDown, Err: last})
	}
	var got []fleetsync.NoticeKind
	for !slices.Contains(got, fleetsync.LinkDown) || !slices.Contains(got, fleetsync.LinkPoke) {
		n := <-b.C()
		got = append(got, n.Kind)
		if n.Kind == fleetsync.LinkDown && !errors.Is(n.Err, last) {
			t.Errorf("down without its reason: %v", n.Err)
		}
	}
	// The deliverer may have been about to hand over an older one, but the newest state is last and the poke is not lost.
	if len(got) > 3 || slices.Contains(got[slices.Index(got, fleetsync.LinkDown):], fleetsync.LinkUp) {
		t.Errorf("got %v, want hardly more than down and a poke, and no up after down", got)
	}
}

func TestCloseEndsTheReader(t *testing.T) {
	b := notices.New()
	b.Put(fleetsync.Notice{Kind: fleetsync.LinkUp})
	b.Close()
	b.Close()
	for range b.C() {
	}
}
