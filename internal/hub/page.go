package hub

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/access"
	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// parameter is one that an endpoint takes in its query. One that it does not take is refused.
type parameter struct {
	name, about string
	schema      object
}

// maxPage is the most that a page may hold, where a limit is given.
const maxPage = 5000

var (
	textSchema   = object{"type": "string"}
	siteAsks     = parameter{"site", "of this site alone", textSchema}
	labelsAsk    = parameter{"labels", "of sites that match the label selector", textSchema}
	groupAsks    = parameter{"group", "of sites of the group", textSchema}
	freshAsks    = parameter{"freshness", "of sites of this freshness", object{"type": "string", "enum": []api.Freshness{api.Fresh, api.Stale, api.Unknown}}}
	sinceAsks    = parameter{"since", "at or after this time", object{"type": "string", "format": "date-time"}}
	untilAsks    = parameter{"until", "before this time", object{"type": "string", "format": "date-time"}}
	limitAsks    = parameter{"limit", "at most so many", object{"type": "integer", "minimum": 1, "maximum": maxPage}}
	continueAsks = parameter{"continue", "go on where the list before ended, as its Link header says", textSchema}
)

// asking is the route with parameters of the query.
func (rt route) asking(parameters ...parameter) route {
	rt.query = parameters
	return rt
}

// unknownParameter refuses a query that the endpoint does not take: what is misspelt would be a wrong answer.
func (rt route) unknownParameter(query url.Values) error {
	for name, values := range query {
		if len(values) > 1 || !slices.ContainsFunc(rt.query, func(p parameter) bool { return p.name == name }) {
			return malformed("the query is not what this endpoint takes", fmt.Errorf("%d times %.40q", len(values), name))
		}
	}
	return nil
}

// sitesAsked are the sites that the query chooses, of those in the user's scope.
func (h *Hub) sitesAsked(r *http.Request) (access.Sites, error) {
	query := r.URL.Query()
	sites := slices.Clone(actorOf(r.Context()).sites)
	selector, err := bundle.ParseSelector(query.Get("labels"))
	if err != nil {
		return nil, malformed("not a label selector", err)
	}
	if !selector.Empty() {
		sites = append(sites, selector)
	}
	if text := query.Get("group"); text != "" {
		name, err := bundle.ParseName(text)
		if err != nil {
			return nil, malformed("not a group's name", err)
		}
		h.mu.Lock()
		_, known := h.view.Group(name)
		groups := h.view.Selectors()
		h.mu.Unlock()
		if !known {
			return nil, unknownGroup(name)
		}
		sites = append(sites, access.Scope{Group: name}.Sites(groups)...)
	}
	return sites, nil
}

// freshnessAsked is that of the query, or empty for any.
func freshnessAsked(r *http.Request) (api.Freshness, error) {
	text := api.Freshness(r.URL.Query().Get("freshness"))
	if text != "" && text != api.Fresh && text != api.Stale && text != api.Unknown {
		return "", malformed("not a freshness", fmt.Errorf("%.40q: want fresh, stale or unknown", text))
	}
	return text, nil
}

// limitAsked is that of the query, or otherwise.
func limitAsked(r *http.Request, otherwise, most int) (int, error) {
	text := r.URL.Query().Get("limit")
	if text == "" {
		return otherwise, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > most {
		return 0, malformed("limit is not a number that can be asked for", fmt.Errorf("%.80q: want 1 to %d", text, most))
	}
	return limit, nil
}

// timeAsked is that of the query, or zero.
func timeAsked(r *http.Request, name string) (at time.Time, err error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return at, nil
	}
	if at, err = time.Parse(time.RFC3339Nano, text); err != nil {
		return at, malformed(name+" is not a time", fmt.Errorf("%.80q: want RFC 3339, for example 2026-11-21T12:00:00Z", text))
	}
	return at, nil
}

// goOn says in a Link header where the list goes on.
func goOn(w http.ResponseWriter, r *http.Request, token string) {
	query := r.URL.Query()
	query.Set("continue", base64.RawURLEncoding.EncodeToString([]byte(token)))
	w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="next"`, r.URL.EscapedPath(), query.Encode()))
}

// continueAsked is what goOn was given, or empty at the beginning.
func continueAsked(r *http.Request) (string, error) {
	raw, err := base64.RawURLEncoding.DecodeString(r.URL.Query().Get("continue"))
	if err != nil || len(raw) > 1000 {
		return "", malformed("continue is not what a list gave", fmt.Errorf("take it from the Link header as it is"))
	}
	return string(raw), nil
}

// pageOf is the page of a list that the query asks for. The list is in the order of its keys, so that what comes and goes between two pages moves
// nothing else.
func pageOf[T any](w http.ResponseWriter, r *http.Request, list []T, key func(T) string) ([]T, error) {
	limit, err := limitAsked(r, 0, maxPage)
	if err != nil {
		return nil, err
	}
	after, err := continueAsked(r)
	if err != nil {
		return nil, err
	}
	if after != "" {
		at, found := slices.BinarySearchFunc(list, after, func(item T, after string) int { return strings.Compare(key(item), after) })
		if found {
			at++
		}
		list = list[at:]
	}
	if limit > 0 && len(list) > limit {
		list = list[:limit]
		goOn(w, r, key(list[limit-1]))
	}
	return list, nil
}
