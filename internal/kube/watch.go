package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/metadata"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

const (
	watchPage     = 500
	watchFirst    = 200 * time.Millisecond // pause after the first failure in a row
	watchLongest  = 30 * time.Second
	watchLifetime = 8 * time.Minute // asked of the server, spread by a quarter, so that dead connections do not last
)

var errWatchEnded = errors.New("cluster: the watch ended")

// Watch lists and watches a place's metadata for ever.
func (c *Conn) Watch(ctx context.Context, place apply.Place, see func(apply.Sighting)) {
	pause := watchFirst
	for ctx.Err() == nil {
		listed := false
		err := c.watchOnce(ctx, place, func(s apply.Sighting) {
			listed = true
			see(s)
		})
		if ctx.Err() != nil {
			return
		}
		if listed {
			pause = watchFirst
		}
		if !errors.Is(err, errWatchEnded) {
			if apply.ClassOf(err) == apply.NoKind {
				c.forget(place.Kind)
				see(apply.Sighting{Kind: apply.SightListed})
			} else {
				see(apply.Sighting{Kind: apply.SightBroken, Err: err})
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(pause*2, watchLongest)
	}
}

func (c *Conn) watchOnce(ctx context.Context, place apply.Place, see func(apply.Sighting)) error {
	m, err := c.resolve(ctx, place.Kind)
	if err != nil {
		return err
	}
	client, err := c.metadata()
	if err != nil {
		return fmt.Errorf("cluster: metadata client: %w", err)
	}
	var resource metadata.ResourceInterface = client.Resource(m.resource)
	if place.Namespace != "" {
		resource = client.Resource(m.resource).Namespace(place.Namespace)
	}
	version, all, err := c.list(ctx, resource, place.Kind)
	if err != nil {
		return err
	}
	see(apply.Sighting{Kind: apply.SightListed, All: all})
	for {
		if version, err = c.follow(ctx, resource, place.Kind, version, see); err != nil {
			return err
		}
	}
}

func (c *Conn) list(ctx context.Context, resource metadata.ResourceInterface, kind apply.Kind) (version string, all []apply.Seen, err error) {
	options := metav1.ListOptions{LabelSelector: apply.Label, Limit: watchPage}
	for {
		page, cancel := context.WithTimeout(ctx, requestTimeout)
		list, err := resource.List(page, options)
		cancel()
		if err != nil {
			return "", nil, fromClient(err)
		}
		for i := range list.Items {
			all = append(all, reduce(kind, &list.Items[i]))
		}
		if list.Continue == "" {
			return list.ResourceVersion, all, nil
		}
		options.Continue = list.Continue
	}
}

// follow watches from a resource version until the server ends the watch, and gives the version to go on from.
func (c *Conn) follow(ctx context.Context, resource metadata.ResourceInterface, kind apply.Kind, version string, see func(apply.Sighting)) (string, error) {
	seconds := int64((watchLifetime + rand.N(watchLifetime/4)).Seconds())
	w, err := resource.Watch(ctx, metav1.ListOptions{LabelSelector: apply.Label, ResourceVersion: version, AllowWatchBookmarks: true, TimeoutSeconds: &seconds})
	if err != nil {
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			return "", errWatchEnded
		}
		return "", fromClient(err)
	}
	defer w.Stop()
	began := time.Now()
	for event := range w.ResultChan() {
		switch event.Type {
		case watch.Error:
			err := apierrors.FromObject(event.Object)
			if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				return "", errWatchEnded
			}
			return "", fromClient(err)
		case watch.Bookmark, watch.Added, watch.Modified, watch.Deleted:
			object, ok := event.Object.(*metav1.PartialObjectMetadata)
			if !ok {
				continue
			}
			version = object.ResourceVersion
			switch event.Type {
			case watch.Added, watch.Modified:
				see(apply.Sighting{Kind: apply.SightPresent, Object: reduce(kind, object)})
			case watch.Deleted:
				see(apply.Sighting{Kind: apply.SightGone, Object: reduce(kind, object)})
			}
		}
	}
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if time.Since(began) < time.Second {
		// A connection that is cut at once must not be taken up again in a hot loop.
		return "", unreachable(errors.New("the watch was cut"))
	}
	return version, nil
}

func reduce(kind apply.Kind, m *metav1.PartialObjectMetadata) apply.Seen {
	return apply.Seen{
		ObjectID: bundle.ObjectID{Group: kind.Group, Kind: kind.Kind, Namespace: m.Namespace, Name: m.Name},
		UID:      string(m.UID), ResourceVersion: m.ResourceVersion, Generation: m.Generation,
		Labels: m.Labels, Annotations: m.Annotations, Deleting: m.DeletionTimestamp != nil,
	}
}
