package web

import (
	"fmt"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
)

// PerPage is how many cells a page of the grid has.
const PerPage = 1000

// roomy is up to how many cells each has its name written in it.
const roomy = 150

// FleetPage is the whole fleet, a cell a site.
type FleetPage struct {
	Total   int // sites that match the selector
	Counts  []Count
	Urgent  []Urgent
	More    int // urgent ones that are not listed
	Cells   []Cell
	Compact bool
	Show    api.Standing // only these; empty is all
	Labels  string       // selector
	Wrong   string       // why the selector is none
	Number  int          // of the page, from 1
	Pages   int
}

// Count is how many sites stand so.
type Count struct {
	Standing api.Standing
	Sites    int
}

// Urgent is a site that wants a look, and why.
type Urgent struct {
	Site     string
	Standing api.Standing
	Why      string
	LastSeen time.Time
}

// Cell is one site of the grid.
type Cell struct {
	Site     string
	Standing api.Standing
	Age      string // of its last word
	Since    int    // the same in seconds; -1 where there is none
	Left     int    // seconds for which its standing may be believed without another word; 0: it is not believed now
}

// maxUrgent is how many sites are listed above the grid.
const maxUrgent = 10

// NewFleet is the grid of sites, which are in the order of their names, on the numbered page. A site is stale two heartbeats after its last word.
func NewFleet(now time.Time, heartBeat time.Duration, sites []api.Site, show api.Standing, number int) FleetPage {
	p := FleetPage{Total: len(sites), Show: show}
	counts := map[api.Standing]int{}
	var shown []int
	stands := make([]api.Standing, len(sites))
	urgent := map[api.Standing][]Urgent{}
	for i, site := range sites {
		standing, why := site.Standing()
		stands[i] = standing
		counts[standing]++
		if show == "" || show == standing {
			shown = append(shown, i)
		}
		switch standing {
		case api.StandingHeld, api.StandingFailing, api.StandingAlarmed, api.StandingDrifted:
			urgent[standing] = append(urgent[standing], Urgent{string(site.ID), standing, why, lastSeen(site)})
		}
	}
	for _, standing := range api.Standings {
		p.Counts = append(p.Counts, Count{standing, counts[standing]})
		p.Urgent = append(p.Urgent, urgent[standing]...)
	}
	if p.More = len(p.Urgent) - maxUrgent; p.More > 0 {
		p.Urgent = p.Urgent[:maxUrgent]
	}
	p.Pages = max(1, (len(shown)+PerPage-1)/PerPage)
	p.Number = min(max(1, number), p.Pages)
	shown = shown[(p.Number-1)*PerPage : min(len(shown), p.Number*PerPage)]
	p.Compact = len(shown) > roomy
	for _, i := range shown {
		p.Cells = append(p.Cells, cellOf(now, heartBeat, sites[i], stands[i]))
	}
	return p
}

func cellOf(now time.Time, heartBeat time.Duration, site api.Site, standing api.Standing) Cell {
	c := Cell{Site: string(site.ID), Standing: standing, Age: "never heard", Since: -1}
	if site.LastSeen == nil {
		return c
	}
	c.Age, c.Since = api.Age(now, *site.LastSeen), max(0, int(now.Sub(*site.LastSeen).Seconds()))
	if site.Freshness == api.Fresh {
		c.Left = max(1, int(site.State.SilentAfter(*site.LastSeen, heartBeat).Sub(now).Seconds()))
	}
	return c
}

func lastSeen(site api.Site) time.Time {
	if site.LastSeen == nil {
		return time.Time{}
	}
	return *site.LastSeen
}

// First and Last are the numbers of the first and last cell.
func (p FleetPage) First() int { return (p.Number-1)*PerPage + 1 }

// Last is the number of the last cell.
func (p FleetPage) Last() int { return (p.Number-1)*PerPage + len(p.Cells) }

// Shown is how many sites all pages have together.
func (p FleetPage) Shown() int {
	for _, c := range p.Counts {
		if c.Standing == p.Show {
			return c.Sites
		}
	}
	return p.Total
}

// Before and After are the numbers of the neighbouring pages, 0 for none.
func (p FleetPage) Before() int { return p.Number - 1 }

// After is the number of the next page, 0 for none.
func (p FleetPage) After() int {
	if p.Number == p.Pages {
		return 0
	}
	return p.Number + 1
}

// Says is the cell in words, for a screen reader and for the pointer.
func (c Cell) Says() string { return fmt.Sprintf("%s: %s, %s", c.Site, c.Standing, c.Age) }
