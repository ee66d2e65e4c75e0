package hub

import (
	"encoding/json"
	"strings"
	"testing"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// noted is a note of shop-1 with a number.
func noted(t *testing.T, number uint64) json.RawMessage {
	t.Helper()
	raw, err := fleetsync.SealNote([]byte("the site's"), fleetsync.Note{Site: "shop-1", Number: number})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// T3: the hub keeps the newest note that it saw of a site, also after the site sent an older one, and gives none to another device of the same name.
func TestT03_TheHubRemembersTheNewestNote(t *testing.T) {
	view, sequence := viewOf(t), uint64(0)
	says := func(note json.RawMessage) {
		t.Helper()
		sequence++
		state := stateAt(sequence)
		state.Note = note
		if _, err := view.Fold(received(fleetsync.StateSubject("shop-1"), sealed(t, fleetsync.TypeState, state, keyShop), minute(int(sequence)))); err != nil {
			t.Fatal(err)
		}
	}
	says(noted(t, 7))
	says(noted(t, 5))
	says(json.RawMessage(`{"body":{"number":-1}}`))
	says(nil)
	for knows, want := range map[uint64]string{0: string(noted(t, 7)), 6: string(noted(t, 7)), 7: "", 9: ""} {
		if got := string(view.Note("shop-1", knows)); got != want {
			t.Errorf("a site that knows %d is given %q", knows, got)
		}
	}
	if got := view.Note("shop-2", 0); got != nil {
		t.Errorf("a site that is none is given %q", got)
	}
	if _, err := view.Fold(recordOf(t, "shop-1", keyEvil)); err != nil {
		t.Fatal(err)
	}
	if got := view.Note("shop-1", 0); got != nil {
		t.Errorf("another device is given %q", got)
	}
}

// T3: a site that asks what is newest, and knows less than it once said, is given its own note back.
func TestT03_TheHubEchoesTheNoteOfASite(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	site := addSite(t, clientOf(t, h), "shop-1", nil)
	if f := site.fresh(strings.Repeat("a", fleetsync.NonceSize)); f.Note != nil {
		t.Errorf("a new site is given %s", f.Note)
	}
	state := stateAt(1)
	state.Note = noted(t, 7)
	site.report(fleetsync.TypeState, fleetsync.StateSubject("shop-1"), state)
	eventually(t, "the note is given back", func() bool {
		return string(site.fresh(strings.Repeat("b", fleetsync.NonceSize)).Note) == string(state.Note)
	})
}
