package hub

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// described is the OpenAPI document, compiled piece by piece as it is needed.
type described struct {
	mu       sync.Mutex
	document any
	pieces   map[string]*jsonschema.Schema
}

func describe(h *Hub) (*described, error) {
	raw, err := document(h.table())
	if err != nil {
		return nil, err
	}
	parsed, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	return &described{document: parsed, pieces: map[string]*jsonschema.Schema{}}, err
}

func (d *described) check(pointer string, raw []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	schema, made := d.pieces[pointer]
	if !made {
		compiler := jsonschema.NewCompiler()
		compiler.AssertFormat()
		if err := compiler.AddResource("https://hub/openapi.json", d.document); err != nil {
			return err
		}
		var err error
		if schema, err = compiler.Compile("https://hub/openapi.json#" + pointer); err != nil {
			return err
		}
		d.pieces[pointer] = schema
	}
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

func pointer(elements ...string) string {
	var b strings.Builder
	for _, e := range elements {
		b.WriteString("/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(e))
	}
	return b.String()
}

// contract holds every answer of every test's hub against the document: what is done to its schema, and refusals to that of a problem.
func contract(t *testing.T) func(*Hub, http.Handler) http.Handler {
	return func(h *Hub, next http.Handler) http.Handler {
		d, err := describe(h)
		if err != nil {
			t.Error(err)
			return next
		}
		mux, byPattern := http.NewServeMux(), map[string]route{}
		for _, rt := range h.table() {
			mux.HandleFunc(rt.pattern, func(http.ResponseWriter, *http.Request) {})
			byPattern[rt.pattern] = rt
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, pattern := mux.Handler(r)
			rt, known := byPattern[pattern]
			recorded := &tape{ResponseWriter: w, status: http.StatusOK}
			next.ServeHTTP(recorded, r)
			raw := recorded.body.Bytes()
			if recorded.long || !known || t.Context().Err() != nil {
				return
			}
			method, path, _ := strings.Cut(pattern, " ")
			switch {
			case recorded.status >= 400:
				if recorded.Header().Get("Content-Type") != api.ProblemType {
					t.Errorf("%s answers %d as %s", pattern, recorded.status, recorded.Header().Get("Content-Type"))
				}
				err = d.check("/components/schemas/Problem", raw)
			case rt.gives != nil:
				err = d.check(pointer("paths", path, strings.ToLower(method), "responses", "200", "content", "application/json", "schema"), raw)
			}
			if err != nil {
				t.Errorf("%s answers %d with what the document does not say: %v\n%s", pattern, recorded.status, err, raw)
			}
		})
	}
}

func TestTheDocumentIsTheTableOfRoutes(t *testing.T) {
	h := startHub(t, inMemory(t))
	target := contextOf(t, h)
	request, err := http.NewRequest("GET", target.URL+"/v1/openapi.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+target.Token)
	response, err := rawClient(t, target).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var served struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]map[string]struct {
			Least      string `json:"x-least-role"`
			Parameters []struct{ Name, In string }
			Body       struct {
				Content map[string]struct{ Schema json.RawMessage }
			} `json:"requestBody"`
		} `json:"paths"`
	}
	if err := json.NewDecoder(response.Body).Decode(&served); err != nil || served.OpenAPI != "3.1.0" {
		t.Fatalf("%v, openapi %q", err, served.OpenAPI)
	}
	var described, routed []string
	for path, methods := range served.Paths {
		for method, operation := range methods {
			described = append(described, strings.ToUpper(method)+" "+path+" "+operation.Least)
		}
	}
	for _, rt := range h.table() {
		routed = append(routed, rt.pattern+" "+string(rt.least))
		method, path, _ := strings.Cut(rt.pattern, " ")
		for _, q := range rt.query {
			if !slices.Contains(served.Paths[path][strings.ToLower(method)].Parameters, struct{ Name, In string }{q.name, "query"}) {
				t.Errorf("%s: the parameter %s is not in the document", rt.pattern, q.name)
			}
		}
		if rt.gives == nil && rt.kind == "" {
			t.Errorf("%s: it is not said what it answers", rt.pattern)
		}
	}
	slices.Sort(described)
	slices.Sort(routed)
	if !slices.Equal(described, routed) {
		t.Errorf("the document has\n%s\nand the table\n%s", strings.Join(described, "\n"), strings.Join(routed, "\n"))
	}
	// The check can fail.
	d, err := describe(h)
	if err != nil {
		t.Fatal(err)
	}
	site := "/components/schemas/Site"
	for body, want := range map[string]bool{
		`{"id":"a"}`: false, `{"id":"a","added":"yesterday","connected":true,"freshness":"fresh","sequence":1,"assigned":[],"events":{"upto":0}}`: false,
		`{"id":"a","added":"2026-11-21T12:00:00Z","connected":true,"freshness":"fresh","sequence":1,"assigned":[],"events":{"upto":0}}`:          true,
		`{"id":"a","added":"2026-11-21T12:00:00Z","connected":true,"freshness":"fresh","sequence":1,"assigned":[],"events":{"upto":0},"more":1}`: false,
	} {
		if err := d.check(site, []byte(body)); (err == nil) != want {
			t.Errorf("%s: %v", body, err)
		}
	}
}

// pages follows Link headers to the end.
func pages[T any](t *testing.T, h *Hub, path string) (all []T, count int) {
	t.Helper()
	target := contextOf(t, h)
	client := rawClient(t, target)
	for path != "" {
		request, err := http.NewRequest("GET", target.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+target.Token)
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		var page []T
		err = json.NewDecoder(response.Body).Decode(&page)
		response.Body.Close()
		if err != nil || response.StatusCode != 200 {
			t.Fatalf("%s: %d %v", path, response.StatusCode, err)
		}
		all, count, path = append(all, page...), count+1, ""
		if link := response.Header.Get("Link"); link != "" {
			path = strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		}
	}
	return all, count
}

func TestListsGoOnWhereTheyEnded(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	for i, name := range []bundle.Name{"a", "a-b", "b"} {
		for counter := range bundle.Counter(3) {
			push(t, client, releaseOf(t, bundle.Version(fmt.Sprintf("1.%d.0", counter)), 8+counter*4, ours(), func(m *bundle.Manifest) { m.Name = name }))
		}
		addSite(t, client, bundle.SiteID(fmt.Sprintf("shop-%d", i)), map[string]string{"region": []string{"eu", "us"}[i%2]})
	}
	whole, err := client.Bundles(ctx)
	if err != nil {
		t.Fatal(err)
	}
	bundles, count := pages[api.Bundle](t, h, "/v1/bundles?limit=2")
	if count != 5 || len(bundles) != 9 || !slices.EqualFunc(bundles, whole, func(a, b api.Bundle) bool { return a.Digest == b.Digest }) {
		t.Errorf("%d pages of %d bundles", count, len(bundles))
	}
	if sites, count := pages[api.Site](t, h, "/v1/sites?limit=1&labels=region%3Deu"); count != 2 || len(sites) != 2 || sites[1].ID != "shop-2" {
		t.Errorf("%d pages, %+v", count, sites)
	}
	if _, err := client.SetGroup(ctx, "europe", "region=eu"); err != nil {
		t.Fatal(err)
	}
	if sites, _ := pages[api.Site](t, h, "/v1/sites?group=europe&freshness=unknown"); len(sites) != 2 {
		t.Errorf("%d sites of the group", len(sites))
	}
	if sites, _ := pages[api.Site](t, h, "/v1/sites?freshness=fresh"); len(sites) != 0 {
		t.Errorf("%d fresh sites", len(sites))
	}
	target := contextOf(t, h)
	raw := rawClient(t, target)
	for path, want := range map[string]string{
		"/v1/sites?limit=0": "limit is not", "/v1/sites?limit=5001": "limit is not", "/v1/sites?continue=%21": "continue is not", "/v1/sites?label=a": "the query is not",
		"/v1/sites?limit=1&limit=2": "the query is not", "/v1/sites?freshness=old": "not a freshness", "/v1/sites?group=nowhere": "group nowhere is not known",
		"/v1/events?continue=MS4w": "continue is not", "/v1/whoami?limit=1": "the query is not",
	} {
		if status, problem := asked(t, raw, target, "GET", path, ""); status/100 != 4 || !strings.Contains(problem.Title, want) {
			t.Errorf("%s: %d %+v", path, status, problem)
		}
	}
}

func TestEventsGoOnWithOlderOnes(t *testing.T) {
	cfg := configOf(t, t.TempDir())
	h := startHub(t, cfg)
	client := clientOf(t, h)
	site := addSite(t, client, "shop-1", nil)
	for i := range uint64(7) {
		site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 3*i+1, 3*i+3))
	}
	eventually(t, "all are in", func() bool { return siteAsShown(t, client, "shop-1").Events.Upto == 21 })
	events, count := pages[api.SiteEvent](t, h, "/v1/events?limit=4")
	if count != 6 || len(events) != 21 {
		t.Fatalf("%d pages of %d events", count, len(events))
	}
	seen := map[uint64]bool{}
	for i, e := range events {
		seen[e.Sequence] = true
		if want := 21 - uint64(i/4*4+3) + uint64(i%4); i < 20 && e.Sequence != want {
			t.Errorf("event %d is number %d, want %d", i, e.Sequence, want)
		}
	}
	if len(seen) != 21 {
		t.Errorf("%d events of 21", len(seen))
	}
}
