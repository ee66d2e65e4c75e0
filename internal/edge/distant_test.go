package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/gate"
)

// distant is a memcluster in another process: it outlives the agents that are killed. What the tests with processes do not need, it refuses.
type distant struct {
	url     string
	account bundle.Account
}

// request is one call to a memcluster; answer is what comes of it.
type (
	request struct {
		Verb    string
		Account bundle.Account
		Patch   apply.Patch
		Ref     apply.Ref
		View    apply.View
		UID     string
		Owner   bundle.Name
		Place   apply.Place
	}
	answer struct {
		Seen       apply.Seen
		Difference apply.Difference
		Gone       bool
		Names      []string
		Version    string
		Sighting   apply.Sighting
		Failure    *apply.ServerError
	}
)

// serve gives a cluster to other processes until the test ends.
func serve(t *testing.T, cluster *memcluster.Cluster) (url string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var q request
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Errorf("the cluster is asked what it does not understand: %v", err)
			return
		}
		as, ctx, out := cluster.As(q.Account), r.Context(), json.NewEncoder(w)
		var a answer
		var err error
		switch q.Verb {
		case "apply":
			a.Seen, err = as.Apply(ctx, q.Patch)
		case "look":
			a.Seen, err = as.Look(ctx, q.Ref, q.View)
		case "diff":
			a.Difference, err = as.Diff(ctx, q.Patch)
		case "delete":
			a.Gone, err = as.Delete(ctx, q.Ref, q.UID)
		case "foreign":
			a.Names, err = as.Foreign(ctx, q.Ref, q.Owner)
		case "version":
			a.Version, err = cluster.Version(ctx)
		case "watch":
			as.Watch(ctx, q.Place, func(s apply.Sighting) {
				_ = out.Encode(answer{Sighting: s})
				_ = http.NewResponseController(w).Flush()
			})
			return
		}
		if err != nil && !errors.As(err, &a.Failure) {
			t.Errorf("%s: %v", q.Verb, err)
		}
		_ = out.Encode(a)
	}))
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server.URL
}

func (d *distant) open(ctx context.Context, q request) (io.ReadCloser, error) {
	q.Account = d.account
	body, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, &apply.ServerError{Class: apply.Passing, Words: err.Error()}
	}
	return response.Body, nil
}

func (d *distant) ask(ctx context.Context, q request) (a answer, err error) {
	body, err := d.open(ctx, q)
	if err != nil {
		return a, err
	}
	defer body.Close()
	if err := json.NewDecoder(body).Decode(&a); err != nil {
		return a, &apply.ServerError{Class: apply.Passing, Words: err.Error()}
	}
	if a.Failure != nil {
		return a, a.Failure
	}
	return a, nil
}

func (d *distant) As(account bundle.Account) apply.Cluster { return &distant{d.url, account} }

func (d *distant) Apply(ctx context.Context, p apply.Patch) (apply.Seen, error) {
	a, err := d.ask(ctx, request{Verb: "apply", Patch: p})
	return a.Seen, err
}

func (d *distant) Look(ctx context.Context, ref apply.Ref, view apply.View) (apply.Seen, error) {
	a, err := d.ask(ctx, request{Verb: "look", Ref: ref, View: view})
	return a.Seen, err
}

func (d *distant) Diff(ctx context.Context, p apply.Patch) (apply.Difference, error) {
	a, err := d.ask(ctx, request{Verb: "diff", Patch: p})
	return a.Difference, err
}

func (d *distant) Delete(ctx context.Context, ref apply.Ref, uid string) (bool, error) {
	a, err := d.ask(ctx, request{Verb: "delete", Ref: ref, UID: uid})
	return a.Gone, err
}

func (d *distant) Foreign(ctx context.Context, container apply.Ref, owner bundle.Name) ([]string, error) {
	a, err := d.ask(ctx, request{Verb: "foreign", Ref: container, Owner: owner})
	return a.Names, err
}

func (d *distant) Version(ctx context.Context) (string, error) {
	a, err := d.ask(ctx, request{Verb: "version"})
	return a.Version, err
}

func (d *distant) Watch(ctx context.Context, place apply.Place, see func(apply.Sighting)) {
	body, err := d.open(ctx, request{Verb: "watch", Place: place})
	if err != nil {
		<-ctx.Done()
		return
	}
	defer body.Close()
	for stream := json.NewDecoder(body); ; {
		var a answer
		if stream.Decode(&a) != nil {
			<-ctx.Done()
			return
		}
		see(a.Sighting)
	}
}

var errNotHere = &apply.ServerError{Class: apply.Permanent, Words: "not in this cluster"}

func (d *distant) Judge(context.Context, apply.Ref, *gate.Gate) (apply.Seen, error) {
	return apply.Seen{}, errNotHere
}

func (d *distant) Probe(context.Context, bundle.Probe) (int, error) { return 0, errNotHere }

func (d *distant) PullSecret(context.Context, apply.PullSecret) (apply.Credentials, error) {
	return apply.Credentials{}, errNotHere
}

func (d *distant) Pulls(context.Context, apply.Ref) (apply.Pulls, error) {
	return apply.Pulls{}, errNotHere
}
