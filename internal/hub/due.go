package hub

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// dueSites are the sites that something is still to be done for: each once, however often it was put, and again where it failed.
type dueSites struct {
	wake chan struct{}

	mu    sync.Mutex
	sites map[bundle.SiteID]bool
}

func newDueSites() *dueSites {
	return &dueSites{wake: make(chan struct{}, 1), sites: map[bundle.SiteID]bool{}}
}

// put never blocks.
func (d *dueSites) put(site bundle.SiteID) {
	d.mu.Lock()
	d.sites[site] = true
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// waiting counts the sites that nothing was done for yet.
func (d *dueSites) waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.sites)
}

// duePause is the rest after a failure, which is the bus's; gatherPause is how long a crowd is waited for.
const (
	duePause    = time.Second
	gatherPause = 200 * time.Millisecond
)

// run does it for as many sites at a time as there are hands until ctx ends. failed says in the log what a failure means.
func (d *dueSites) run(ctx context.Context, log *zap.Logger, hands int, failed string, do func(context.Context, bundle.SiteID) error) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.wake:
		}
		if d.waiting() >= hands { // a crowd: what is due to a site more than once is done once
			select {
			case <-time.After(gatherPause):
			case <-ctx.Done():
				return
			}
		}
		d.mu.Lock()
		sites := d.sites
		d.sites = map[bundle.SiteID]bool{}
		d.mu.Unlock()
		var working errgroup.Group
		working.SetLimit(hands)
		for site := range sites {
			working.Go(func() error {
				err := do(ctx, site)
				if err == nil || ctx.Err() != nil {
					return nil
				}
				log.Warn(failed, zap.String("site", string(site)), zap.Error(err))
				d.put(site)
				select {
				case <-time.After(duePause):
				case <-ctx.Done():
				}
				return nil
			})
		}
		_ = working.Wait() // each site's failure was dealt with
	}
}
