package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/edge"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// survey is every object of a cluster by "resource.group namespace/name".
type survey map[string]metav1.ObjectMeta

// unsteady are resources that come, go and change by themselves.
var unsteady = []string{"events", "endpoints", "events.events.k8s.io", "leases.coordination.k8s.io", "componentstatuses", "nodes", "csinodes.storage.k8s.io",
	"pods.metrics.k8s.io", "nodes.metrics.k8s.io", "ipaddresses.networking.k8s.io"}

// surveyOf lists everything the API server can list, but for the note in which the agent keeps its counters. An aggregated API that does not answer is left out.
func surveyOf(ctx context.Context, config *rest.Config) (survey, error) {
	d, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	lists, err := d.ServerPreferredResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, err
	}
	client, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	all := survey{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			gvr := gv.WithResource(r.Name)
			name := gvr.GroupResource().String()
			if !slices.Contains(r.Verbs, "list") || slices.Contains(unsteady, name) {
				continue
			}
			objects, err := client.Resource(gvr).List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			for _, o := range objects.Items {
				if name == "configmaps" && strings.HasPrefix(o.Name, edge.NoteName+"-") {
					continue // the agent's own, written as the site goes on
				}
				all[name+" "+strings.TrimPrefix(o.Namespace+"/"+o.Name, "/")] = o.ObjectMeta
			}
		}
	}
	return all, nil
}

// settled is a survey of a cluster in which nothing changes any more: two in a row are equal.
func (s *site) settled() (last survey) {
	s.stage.t.Helper()
	s.stage.within(patience, "the cluster to settle", func() error {
		now, err := surveyOf(s.stage.context(), s.Cluster.Config())
		if err != nil {
			return err
		}
		before := last
		last = now
		if changes := before.changes(now); len(changes) > 0 || before == nil {
			return fmt.Errorf("still changing: %s", strings.Join(changes, ", "))
		}
		return nil
	})
	return last
}

// of gives the objects of a bundle: they carry its label and nobody owns them. (Kubernetes gives the EndpointSlices of a Service its labels, and
// writes them whenever a pod moves.)
func (a survey) of(bundle string) survey {
	some := maps.Clone(a)
	maps.DeleteFunc(some, func(_ string, o metav1.ObjectMeta) bool {
		return o.Labels[apply.Label] != bundle || len(o.OwnerReferences) > 0
	})
	return some
}

// changes names what is in one survey only or differs in resource version.
func (a survey) changes(b survey) []string {
	changes := a.comesAndGoes(b)
	for key, o := range a {
		if now, ok := b[key]; ok && (now.UID != o.UID || now.ResourceVersion != o.ResourceVersion) {
			changes = append(changes, "~"+key)
		}
	}
	slices.Sort(changes)
	return changes
}

// comesAndGoes names what is in one survey only: "-" is gone, "+" is new.
func (a survey) comesAndGoes(b survey) (names []string) {
	for key := range a {
		if _, ok := b[key]; !ok {
			names = append(names, "-"+key)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			names = append(names, "+"+key)
		}
	}
	slices.Sort(names)
	return names
}

// leavesNothing waits until the cluster has exactly the objects it had before.
func (s *site) leavesNothing(before survey) {
	s.stage.t.Helper()
	err := fleet.Until(s.stage.context(), time.Minute, "nothing to be left", func() error {
		now, err := surveyOf(s.stage.context(), s.Cluster.Config())
		if err != nil {
			return err
		}
		if names := before.comesAndGoes(now); len(names) > 0 {
			return fmt.Errorf("%d differ: %s", len(names), strings.Join(names, ", "))
		}
		return nil
	})
	if err != nil {
		s.stage.t.Error(err)
	}
}

// unchanged fails the test where objects of a bundle are other ones or have other resource versions than before.
func (a survey) unchanged(t *testing.T, after survey, why string) {
	t.Helper()
	if changes := a.changes(after); len(changes) > 0 {
		t.Errorf("%s: %d of %d objects changed: %s", why, len(changes), len(a), strings.Join(changes, ", "))
	}
}
