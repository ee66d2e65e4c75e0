package memcluster

import (
	"context"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// watcher is one watch: what it has to tell waits in order, so that neither side blocks the other.
type watcher struct {
	view    *Cluster
	place   apply.Place
	denied  bool // and so told of nothing
	pending []apply.Sighting
	wake    chan struct{}
}

// sees says that an object is where the watch looks.
func (w *watcher) sees(id bundle.ObjectID) bool {
	return id.Group == w.place.Group && id.Kind == w.place.Kind.Kind && (w.place.Namespace == "" || id.Namespace == w.place.Namespace)
}

// first is the list that a watch begins with, or what is said of one that is refused: then Break begins it anew.
func (w *watcher) first() apply.Sighting {
	at := bundle.ObjectID{Group: w.place.Group, Kind: w.place.Kind.Kind, Namespace: w.place.Namespace}
	err := w.view.call(Call{Verb: "watch", Object: at})
	if w.denied = err != nil; w.denied {
		return apply.Sighting{Kind: apply.SightBroken, Err: err}
	}
	list := apply.Sighting{Kind: apply.SightListed}
	for id, o := range w.view.objects {
		if w.sees(id) && o.Labels[apply.Label] != "" {
			list.All = append(list.All, o.seen())
		}
	}
	return list
}

// Watch implements apply.Cluster.
func (c *Cluster) Watch(ctx context.Context, place apply.Place, see func(apply.Sighting)) {
	w := &watcher{view: c, place: place, wake: make(chan struct{}, 1)}
	c.mu.Lock()
	first := w.first()
	c.watchers[w] = true
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
		w.say(apply.Sighting{Kind: apply.SightBroken, Err: err})
		w.say(w.first())
	}
}

// tell passes a change on to the watches. Objects without the label are not watched, except as they lose it.
func (c *Cluster) tell(o *object, kind apply.SightingKind) {
	if kind == apply.SightPresent && o.Labels[apply.Label] == "" {
		return
	}
	for w := range c.watchers {
		if !w.denied && w.sees(o.ObjectID) {
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
