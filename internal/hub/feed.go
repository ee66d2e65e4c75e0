package hub

import (
	"crypto/rand"
	"strconv"
	"strings"
	"sync"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Limits of watching.
const (
	feedSize       = 16 << 10 // notes kept for those who come back
	maxWatchers    = 200
	maxWatchersOne = 10 // of one user
)

// note is one thing that happened. A site's is without the site itself: who is told sees it as it is then.
type note struct {
	number  uint64
	site    bundle.SiteID // of a site or an event
	event   *api.SiteEvent
	rollout *api.Rollout
}

// subject is what a later note says anew; an event's says nothing anew.
func (n note) subject() string {
	switch {
	case n.event != nil:
		return ""
	case n.rollout != nil:
		return "rollout " + n.rollout.ID
	}
	return "site " + string(n.site)
}

// feed is what happened last, numbered from 1, for those who watch. Nobody is waited for: who falls behind the ring is told that something is
// missing, and looks at the lists again. Its methods may be called concurrently.
type feed struct {
	life string // notes of another life of the hub have other numbers

	mu       sync.Mutex
	ring     [feedSize]note
	last     uint64
	woken    chan struct{} // closed and replaced when there is something new
	closed   bool
	watchers map[string]int
	watching int
}

func newFeed() *feed {
	return &feed{life: strings.ToLower(rand.Text()[:8]), woken: make(chan struct{}), watchers: map[string]int{}}
}

// put never blocks.
func (f *feed) put(notes ...note) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range notes {
		f.last++
		n.number = f.last
		f.ring[f.last%feedSize] = n
	}
	f.wakeAll()
}

func (f *feed) wakeAll() {
	if !f.closed {
		close(f.woken)
		f.woken = make(chan struct{})
	}
}

// nudge has every watcher look whether it still may.
func (f *feed) nudge() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wakeAll()
}

// close ends all watching.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wakeAll()
	f.closed = true
}

// after gives the notes after a number, of a site or a rollout only the newest; missing says that some are gone. woken is closed when there are more,
// and closed says that there will not be.
func (f *feed) after(number uint64) (notes []note, last uint64, missing bool, woken <-chan struct{}, closed bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if missing = f.last-number > feedSize; missing {
		return nil, f.last, true, f.woken, f.closed
	}
	newest := map[string]uint64{}
	for n := number + 1; n <= f.last; n++ {
		newest[f.ring[n%feedSize].subject()] = n
	}
	for n := number + 1; n <= f.last; n++ {
		if one := f.ring[n%feedSize]; one.event != nil || newest[one.subject()] == n {
			notes = append(notes, one)
		}
	}
	return notes, f.last, false, f.woken, f.closed
}

// id is what a note is called to those who watch.
func (f *feed) id(number uint64) string { return f.life + "-" + strconv.FormatUint(number, 10) }

// resume is the number from which to go on; known is false for an id of another life, or of none that was given out.
func (f *feed) resume(id string) (number uint64, known bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if id == "" {
		return f.last, true
	}
	life, text, _ := strings.Cut(id, "-")
	number, err := strconv.ParseUint(text, 10, 64)
	if err != nil || life != f.life || number > f.last {
		return f.last, false
	}
	return number, true
}

// enter makes a user one who watches, until leave is called; ok is false where too many do.
func (f *feed) enter(user string) (leave func(), ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.watching >= maxWatchers || f.watchers[user] >= maxWatchersOne {
		return nil, false
	}
	f.watching++
	f.watchers[user]++
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watching--
		if f.watchers[user]--; f.watchers[user] == 0 {
			delete(f.watchers, user)
		}
	}, true
}

// watches is how many streams of a user are open.
func (f *feed) watches(user string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watchers[user]
}
