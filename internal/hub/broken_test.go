package hub

import (
	"context"
	"errors"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// breaking is a bus on which every write fails once so many were made, and reads with them where deaf is set, until it is mended.
// The first write that fails is done nevertheless where anyway is set.
type breaking struct {
	*membus.Bus
	armed       bool
	left        int
	anyway      bool
	deaf, fails bool
}

var errBroken = errors.New("the bus broke")

func (b *breaking) arm(writes int, anyway bool) {
	b.armed, b.left, b.anyway, b.fails = true, writes, anyway, false
}

func (b *breaking) mend() { b.armed, b.fails = false, false }

// write says whether to do it and what to answer.
func (b *breaking) write() (do bool, err error) {
	if !b.armed {
		return true, nil
	}
	if b.left--; b.left >= 0 {
		return true, nil
	}
	first := !b.fails
	b.fails = true
	return first && b.anyway, errBroken
}

func (b *breaking) PutIf(ctx context.Context, subject string, data []byte, last uint64) (sequence uint64, err error) {
	do, broken := b.write()
	if do {
		sequence, err = b.Bus.PutIf(ctx, subject, data, last)
	}
	if broken != nil {
		return 0, broken
	}
	return sequence, err
}

func (b *breaking) CreateAll(ctx context.Context, messages []stream.Message) (err error) {
	do, broken := b.write()
	if do {
		err = b.Bus.CreateAll(ctx, messages)
	}
	if broken != nil {
		return broken
	}
	return err
}

func (b *breaking) Get(ctx context.Context, subject string) (stream.Message, error) {
	if b.deaf && b.fails {
		return stream.Message{}, errBroken
	}
	return b.Bus.Get(ctx, subject)
}

// worlds are the ways a write can break: not done or done anyway, with the bus still readable or not.
func worlds(t *testing.T, run func(t *testing.T, b *breaking, anyway bool)) {
	for name, c := range map[string]struct{ anyway, deaf bool }{
		"not done": {}, "done": {anyway: true}, "not done, deaf": {deaf: true}, "done, deaf": {anyway: true, deaf: true},
	} {
		t.Run(name, func(t *testing.T) { run(t, &breaking{Bus: membus.New(nil), deaf: c.deaf}, c.anyway) })
	}
}

// A push that broke off at any of its writes shows nothing half done, and the same push again completes it.
func TestF09_ABrokenPushIsCompletedByTheSamePush(t *testing.T) {
	first, second := releaseOf(t, "1.0.0", 1, ours()), releaseOf(t, "1.1.0", 2, ours())
	ref := bundle.Ref{Name: "shop", Version: "1.1.0"}
	worlds(t, func(t *testing.T, b *breaking, anyway bool) {
		broke := 0
		for writes := range 6 {
			b.Bus = membus.New(nil)
			cfg := configOf(t, t.TempDir())
			cfg.Bus = b
			h := startHub(t, cfg)
			if _, err := h.Push(t.Context(), first.bytes(t)); err != nil {
				t.Fatal(err)
			}
			b.arm(writes, anyway)
			_, err := h.Push(t.Context(), second.bytes(t))
			b.mend()
			if err == nil {
				continue
			}
			broke++
			if problem := problemOf(err); problem.Status != 503 || problem.Hint == "" {
				t.Errorf("after %d writes: %+v", writes, problem)
			}
			if _, err := h.BundleFile(t.Context(), ref); err == nil && !anyway {
				t.Errorf("after %d writes the bundle can be fetched", writes)
			}
			if pushed, err := h.Push(t.Context(), second.bytes(t)); err != nil || len(pushed.Deltas) != 1 || pushed.Wire == 0 {
				t.Errorf("after %d writes, pushed again: %+v, %v", writes, pushed, err)
			}
			if file, err := h.BundleFile(t.Context(), ref); err != nil || len(file) == 0 {
				t.Errorf("after %d writes, pushed again: file %v", writes, err)
			}
			h.Close()
		}
		if broke == 0 {
			t.Error("no push broke")
		}
	})
}

// Where the outcome of a write is not known, the hub asks; where it cannot ask, the same request again ends in the same place.
func TestF09_UnknownOutcomesAreAskedForAndNeverGuessed(t *testing.T) {
	worlds(t, func(t *testing.T, b *breaking, anyway bool) {
		cfg := configOf(t, t.TempDir())
		cfg.Bus = b
		h := startHub(t, cfg)
		if _, err := h.Push(t.Context(), releaseOf(t, "1.0.0", 1, ours()).bytes(t)); err != nil {
			t.Fatal(err)
		}
		_, key, err := bus.NewSiteKey()
		if err != nil {
			t.Fatal(err)
		}
		request := api.SiteRequest{ID: "shop-1", PublicKey: key}
		b.arm(0, anyway)
		if _, err := h.AddSite(t.Context(), request); (err == nil) != (anyway && !b.deaf) {
			t.Errorf("add: %v", err)
		}
		b.mend()
		if grant, err := h.AddSite(t.Context(), request); err != nil || grant.JWT == "" {
			t.Errorf("add again: %v", err)
		}
		eventually(t, "the site is known", func() bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			_, known := h.view.Record("shop-1")
			return known
		})
		if _, err := h.AddSite(t.Context(), request); err != nil {
			t.Errorf("add a third time: %v", err)
		}

		order := api.AssignRequest{Sites: []bundle.SiteID{"shop-1"}, Bundle: bundle.Ref{Name: "shop", Version: "1.0.0"}}
		b.arm(0, anyway)
		results, err := h.Assign(t.Context(), order)
		b.mend()
		if err != nil || (results[0].Error == nil) != (anyway && !b.deaf) {
			t.Errorf("assign: %+v, %v", results, err)
		}
		if results, err = h.Assign(t.Context(), order); err != nil || results[0].Error != nil || results[0].Sequence != 1 {
			t.Errorf("assign again: %+v, %v; want sequence 1, whoever wrote it", results, err)
		}
	})
}
