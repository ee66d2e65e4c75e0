package membus

import (
	"context"
	"fmt"
	"slices"

	"github.com/holdfast-fleet/holdfast/internal/bus/notices"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Link is a site's fleetsync.Link on a Bus.
type Link struct {
	bus  *Bus
	site bundle.SiteID
	box  *notices.Box

	// Under bus.mu.
	up     context.Context // nil while the link is down
	down   context.CancelCauseFunc
	closed bool
}

var _ fleetsync.Link = (*Link)(nil)

// Link connects a site. It comes up at once unless the site is cut off.
func (b *Bus) Link(site bundle.SiteID) *Link {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := &Link{bus: b, site: site, box: notices.New()}
	b.links[site] = append(b.links[site], l)
	if !b.cut[site] {
		l.comeUp()
	}
	return l
}

func (l *Link) comeUp() {
	if l.closed || l.up != nil {
		return
	}
	l.up, l.down = context.WithCancelCause(context.Background())
	l.box.Put(fleetsync.Notice{Kind: fleetsync.LinkUp})
}

func (l *Link) breakOff(err error) {
	if l.up == nil {
		return
	}
	l.down(fmt.Errorf("%w: connection lost: %w", fleetsync.ErrNoLink, err))
	l.up, l.down = nil, nil
	l.box.Put(fleetsync.Notice{Kind: fleetsync.LinkDown, Err: err})
}

// call does work as the fault of the moment wants it.
func (l *Link) call(ctx context.Context, op Op, subject string, work func() error) error {
	l.bus.mu.Lock()
	up := l.up
	l.bus.mu.Unlock()
	if up == nil {
		return fleetsync.ErrNoLink
	}
	outcome := l.bus.outcome(Call{l.site, op, subject})
	if up.Err() != nil {
		return context.Cause(up)
	}
	if outcome == Lose {
		return l.wait(ctx, up)
	}
	err := work()
	if outcome == Twice {
		err = work()
	}
	if outcome == LoseAnswer {
		return l.wait(ctx, up)
	}
	return err
}

// wait is for an answer that does not come.
func (l *Link) wait(ctx, up context.Context) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-up.Done():
		return context.Cause(up)
	}
}

// Get gives the newest message of a subject.
func (l *Link) Get(ctx context.Context, subject string) (data []byte, err error) {
	if !stream.MayRead(l.site, subject) {
		return nil, fmt.Errorf("get %s: %w", subject, stream.ErrDenied)
	}
	err = l.call(ctx, OpGet, subject, func() error {
		m, err := l.bus.Get(ctx, subject)
		data = m.Data
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", subject, err)
	}
	return data, nil
}

// Report stores a message on one of the site's own subjects.
func (l *Link) Report(ctx context.Context, subject string, data []byte) error {
	if !stream.MayReport(l.site, subject) {
		return fmt.Errorf("report %s: %w", subject, stream.ErrDenied)
	}
	if len(data) > stream.MaxReport {
		return fmt.Errorf("report %s: %w: %d bytes, at most %d", subject, stream.ErrTooLarge, len(data), stream.MaxReport)
	}
	err := l.call(ctx, OpReport, subject, func() error {
		_, err := l.bus.Put(ctx, subject, data)
		return err
	})
	if err != nil {
		return fmt.Errorf("report %s: %w", subject, err)
	}
	return nil
}

// Hello sends a heartbeat. It does not wait, so a fault only decides whether it arrives.
func (l *Link) Hello(_ context.Context, subject string, data []byte) error {
	if subject != stream.HelloOf(l.site) {
		return fmt.Errorf("hello %s: %w", subject, stream.ErrDenied)
	}
	l.bus.mu.Lock()
	up := l.up
	l.bus.mu.Unlock()
	if up == nil {
		return fmt.Errorf("hello: %w", fleetsync.ErrNoLink)
	}
	switch l.bus.outcome(Call{l.site, OpHello, subject}) {
	case Lose:
	case Twice:
		l.bus.hello(l.site, data)
		l.bus.hello(l.site, data)
	default:
		l.bus.hello(l.site, data)
	}
	return nil
}

// Notices tells what happens to the link.
func (l *Link) Notices() <-chan fleetsync.Notice { return l.box.C() }

// Close ends the link.
func (l *Link) Close() error {
	l.bus.mu.Lock()
	defer l.bus.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	if l.down != nil {
		l.down(fmt.Errorf("%w: closed", fleetsync.ErrNoLink))
		l.up, l.down = nil, nil
	}
	l.bus.links[l.site] = slices.DeleteFunc(l.bus.links[l.site], func(x *Link) bool { return x == l })
	l.box.Close()
	return nil
}
