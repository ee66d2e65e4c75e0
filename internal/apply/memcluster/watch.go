package memcluster

import (
	"context"

	"github.com/holdfast-fleet/holdfast/internal/apply"
)

// watcher is one watch: what it has to tell waits in order, so that neither side blocks the other.
type watcher struct {
	kind    apply.Kind
	pending []apply.Sighting
	wake    chan struct{}
}

// Watch implements apply.Cluster.
func (c *Cluster) Watch(ctx context.Context, kind apply.Kind, see func(apply.Sighting)) {
	w := &watcher{kind: kind, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	first := apply.Sighting{Kind: apply.SightListed}
	for id, o := range c.objects {
		if id.Group == kind.Group && id.Kind == kind.Kind && o.Labels[apply.Label] != "" {
			first.All = append(first.All, o.seen())
		}
	}
	c.watchers[w] = true
	c.requests++
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.watchers, w)
		c.mu.Unlock()
	}()
	see(first)
	for {
		c.mu.Lock()
		pending := w.pending
		w.pending = nil
		c.mu.Unlock()
		for _, s := range pending {
			see(s)
		}
		if len(pending) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
	}
}

// Break tells every watch that it broke and lets it begin anew, as when the API server restarts.
func (c *Cluster) Break(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.watchers {
		list := apply.Sighting{Kind: apply.SightListed}
		for id, o := range c.objects {
			if id.Group == w.kind.Group && id.Kind == w.kind.Kind && o.Labels[apply.Label] != "" {
				list.All = append(list.All, o.seen())
			}
		}
		w.say(apply.Sighting{Kind: apply.SightBroken, Err: err})
		w.say(list)
	}
}

// tell passes a change on to the watches. Objects without the label are not watched, except as they lose it.
func (c *Cluster) tell(o *object, kind apply.SightingKind) {
	if kind == apply.SightPresent && o.Labels[apply.Label] == "" {
		return
	}
	for w := range c.watchers {
		if w.kind.Group == o.Group && w.kind.Kind == o.ObjectID.Kind {
			w.say(apply.Sighting{Kind: kind, Object: o.seen()})
		}
	}
}

func (w *watcher) say(s apply.Sighting) {
	w.pending = append(w.pending, s)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}
