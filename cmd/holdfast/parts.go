package main

import (
	"fmt"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// inParts has the hub change many sites, as many at a time as a request may name. Once a part was carried out, the sites of one that was not have its
// error each, and so have those behind it, which were not asked for.
func (d *desk) inParts(ids []bundle.SiteID, send func([]bundle.SiteID) ([]api.AssignResult, error)) (results []api.AssignResult, err error) {
	for begin := 0; begin < len(ids); begin += api.MaxSites {
		part := ids[begin:min(begin+api.MaxSites, len(ids))]
		told, err := send(part)
		if err != nil && begin == 0 {
			return nil, err
		}
		if err != nil {
			for _, id := range ids[begin:] {
				results = append(results, api.AssignResult{Site: id, Error: &api.Problem{Title: fmt.Sprintf("site %s: not asked for", id), Detail: err.Error(), Reason: "Unavailable"}})
			}
			break
		}
		results = append(results, told...)
		d.tellParts(len(results), len(ids))
	}
	return results, nil
}

// tellParts draws how far a long change is, on a terminal.
func (d *desk) tellParts(done, all int) {
	if !d.live || all <= api.MaxSites {
		return
	}
	end := ""
	if done == all {
		end = "\n"
	}
	fmt.Fprintf(d.talk, "\r%d of %d sites%s", done, all, end)
}
