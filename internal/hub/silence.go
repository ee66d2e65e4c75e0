package hub

import (
	"container/heap"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// silence is when sites are to be looked at because they may have fallen silent: each once, however often it is heard.
type silence struct {
	queue  expiries
	queued map[bundle.SiteID]bool
}

type expiry struct {
	site bundle.SiteID
	at   time.Time
}

// put has a site looked at after a time, or earlier, if that was said before.
func (s *silence) put(site bundle.SiteID, at time.Time) {
	if s.queued[site] {
		return
	}
	if s.queued == nil {
		s.queued = map[bundle.SiteID]bool{}
	}
	s.queued[site] = true
	heap.Push(&s.queue, expiry{site, at})
}

// due takes out the sites whose time is before now.
func (s *silence) due(now time.Time) (sites []bundle.SiteID) {
	for len(s.queue) > 0 && s.queue[0].at.Before(now) {
		site := heap.Pop(&s.queue).(expiry).site
		delete(s.queued, site)
		sites = append(sites, site)
	}
	return sites
}

// next is the soonest time.
func (s *silence) next() (at time.Time, there bool) {
	if len(s.queue) == 0 {
		return time.Time{}, false
	}
	return s.queue[0].at, true
}

// expiries are a heap, the soonest first.
type expiries []expiry

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].at.Before(e[j].at) }
func (e expiries) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *expiries) Push(x any)        { *e = append(*e, x.(expiry)) }

func (e *expiries) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
