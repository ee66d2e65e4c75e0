// Package bustest is the suite that hub and link pass on the real bus and on its twin.
package bustest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Hub is the hub's side, as both implementations offer it.
type Hub interface {
	Put(ctx context.Context, subject string, data []byte) (uint64, error)
	Create(ctx context.Context, subject string, data []byte) (uint64, error)
	PutIf(ctx context.Context, subject string, data []byte, last uint64) (uint64, error)
	CreateAll(ctx context.Context, messages []stream.Message) error
	Get(ctx context.Context, subject string) (stream.Message, error)
	Delete(ctx context.Context, name, subject string) error
	DeleteUpTo(ctx context.Context, name, subject string, last uint64) error
	Each(ctx context.Context, name, filter string, from uint64, f func(stream.Message) error) error
	Follow(ctx context.Context, name string, from uint64, f func(stream.Message) error) error
	Poke(site bundle.SiteID) error
	Answer(site bundle.SiteID, statement []byte) error
	OnHello(f func(site bundle.SiteID, data []byte)) (stop func(), err error)
}

// World is one empty bus.
type World struct {
	Hub  Hub
	Link func(t *testing.T, site bundle.SiteID) fleetsync.Link
	// Cut breaks a site's link until Mend.
	Cut, Mend func(site bundle.SiteID)
}

const patience = 20 * time.Second

// Run checks an implementation.
func Run(t *testing.T, fresh func(t *testing.T) World) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, ctx context.Context, w World)
	}{
		{"newest message stays", testNewest},
		{"immutable is written once", testImmutable},
		{"compare and swap", testPutIf},
		{"many at once", testCreateAll},
		{"delete", testDelete},
		{"delete up to", testDeleteUpTo},
		{"replay", testEach},
		{"follow", testFollow},
		{"site reads and reports", testSite},
		{"site is kept to its own", testDenied},
		{"report is stored as it came", testReports},
		{"limits", testLimits},
		{"poke and hello", testPokeHello},
		{"cut and mend", testCut},
		{"close", testClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			c.test(t, ctx, fresh(t))
		})
	}
}

var (
	one, two = bundle.SiteID("shop-1"), bundle.SiteID("shop-2")
	digest   = bundle.DigestOf([]byte("content"))
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// Await takes notices until one of a kind comes.
func Await(t *testing.T, l fleetsync.Link, kind fleetsync.NoticeKind) fleetsync.Notice {
	t.Helper()
	end := time.After(patience)
	for {
		select {
		case n, ok := <-l.Notices():
			if !ok {
				t.Fatalf("the link ended while waiting for %q", kind)
			}
			if n.Kind == kind {
				return n
			}
		case <-end:
			t.Fatalf("no notice %q", kind)
		}
	}
}

func linked(t *testing.T, w World, site bundle.SiteID) fleetsync.Link {
	t.Helper()
	l := w.Link(t, site)
	t.Cleanup(func() { _ = l.Close() })
	Await(t, l, fleetsync.LinkUp)
	return l
}

func testNewest(t *testing.T, ctx context.Context, w World) {
	subject := fleetsync.DesiredSubject(one)
	_, err := w.Hub.Get(ctx, subject)
	wantErr(t, "nothing there", err, fleetsync.ErrNotFound)
	a, err := w.Hub.Put(ctx, subject, []byte("a"))
	must(t, err)
	b, err := w.Hub.Put(ctx, subject, []byte("b"))
	must(t, err)
	m, err := w.Hub.Get(ctx, subject)
	must(t, err)
	if string(m.Data) != "b" || m.Sequence != b || b <= a || m.Subject != subject || m.Time.IsZero() {
		t.Errorf("got %+v, want b with sequence %d > %d", m, b, a)
	}
	if got := each(t, ctx, w, stream.Desired, "", 0); !slices.Equal(got, []string{subject + "=b"}) {
		t.Errorf("the stream holds %q", got)
	}
	if _, err := w.Hub.Put(ctx, "hf.desired.*", []byte("x")); err == nil {
		t.Error("a wildcard was written")
	}
	if _, err := w.Hub.Put(ctx, "hf.nowhere.x", []byte("x")); err == nil {
		t.Error("a subject without a stream was written")
	}
}

func each(t *testing.T, ctx context.Context, w World, name, filter string, from uint64) []string {
	t.Helper()
	got := []string{}
	must(t, w.Hub.Each(ctx, name, filter, from, func(m stream.Message) error {
		got = append(got, m.Subject+"="+string(m.Data))
		return nil
	}))
	return got
}

func testImmutable(t *testing.T, ctx context.Context, w World) {
	for _, subject := range []string{fleetsync.BundleSubject(digest), fleetsync.BlobSubject(digest, 0), "hf.catalog.shop.1.4.2-rc.1"} {
		_, err := w.Hub.Create(ctx, subject, []byte("first"))
		must(t, err)
		_, err = w.Hub.Create(ctx, subject, []byte("second"))
		wantErr(t, "create again "+subject, err, stream.ErrExists)
		_, err = w.Hub.Put(ctx, subject, []byte("second"))
		wantErr(t, "put over "+subject, err, stream.ErrExists)
		m, err := w.Hub.Get(ctx, subject)
		must(t, err)
		if string(m.Data) != "first" {
			t.Errorf("%s holds %q", subject, m.Data)
		}
	}
}

func testPutIf(t *testing.T, ctx context.Context, w World) {
	const subject = "hf.site.shop-1"
	n, err := w.Hub.PutIf(ctx, subject, []byte("1"), 0)
	must(t, err)
	_, err = w.Hub.PutIf(ctx, subject, []byte("lost"), 0)
	wantErr(t, "as if it were new", err, stream.ErrConflict)
	_, err = w.Hub.PutIf(ctx, subject, []byte("lost"), n+7)
	wantErr(t, "wrong sequence", err, stream.ErrConflict)
	_, err = w.Hub.PutIf(ctx, subject, []byte("2"), n)
	must(t, err)
	if got := each(t, ctx, w, stream.Sites, "", 0); !slices.Equal(got, []string{subject + "=2"}) {
		t.Errorf("got %q", got)
	}
}

func testCreateAll(t *testing.T, ctx context.Context, w World) {
	var chunks []stream.Message
	for i := range 100 {
		chunks = append(chunks, stream.Message{Subject: fleetsync.BlobSubject(digest, i), Data: []byte(fmt.Sprint(i))})
	}
	must(t, w.Hub.CreateAll(ctx, chunks))
	if got := each(t, ctx, w, stream.Blobs, "", 0); len(got) != 100 {
		t.Errorf("%d chunks stored", len(got))
	}
	wantErr(t, "again", w.Hub.CreateAll(ctx, chunks[40:60]), stream.ErrExists)
	must(t, w.Hub.CreateAll(ctx, nil))
}

func testDelete(t *testing.T, ctx context.Context, w World) {
	for i := range 3 {
		_, err := w.Hub.Create(ctx, fleetsync.BlobSubject(digest, i), []byte("x"))
		must(t, err)
	}
	other := bundle.DigestOf([]byte("other"))
	_, err := w.Hub.Create(ctx, fleetsync.BlobSubject(other, 0), []byte("y"))
	must(t, err)
	must(t, w.Hub.Delete(ctx, stream.Blobs, "hf.blob."+digest.Hex()+".*"))
	must(t, w.Hub.Delete(ctx, stream.Blobs, "hf.blob."+digest.Hex()+".*"))
	if got := each(t, ctx, w, stream.Blobs, "", 0); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
	_, err = w.Hub.Create(ctx, fleetsync.BlobSubject(digest, 0), []byte("again"))
	must(t, err)
}

func testDeleteUpTo(t *testing.T, ctx context.Context, w World) {
	var sequences []uint64
	for range 4 {
		sequence, err := w.Hub.Put(ctx, "hf.audit", []byte("x"))
		must(t, err)
		sequences = append(sequences, sequence)
	}
	must(t, w.Hub.DeleteUpTo(ctx, stream.Audit, "hf.audit", sequences[1]))
	must(t, w.Hub.DeleteUpTo(ctx, stream.Audit, "hf.audit", sequences[1]))
	if got := each(t, ctx, w, stream.Audit, "", 0); len(got) != 2 {
		t.Errorf("left: %q", got)
	}
	// Of a subject that keeps the newest, only what is not newer goes.
	old, err := w.Hub.Put(ctx, "hf.rollout.a", []byte("1"))
	must(t, err)
	_, err = w.Hub.Put(ctx, "hf.rollout.b", []byte("1"))
	must(t, err)
	newer, err := w.Hub.Put(ctx, "hf.rollout.a", []byte("2"))
	must(t, err)
	must(t, w.Hub.DeleteUpTo(ctx, stream.Rollouts, "hf.rollout.a", old))
	if m, err := w.Hub.Get(ctx, "hf.rollout.a"); err != nil || m.Sequence != newer {
		t.Errorf("what came later: %+v, %v", m, err)
	}
	must(t, w.Hub.DeleteUpTo(ctx, stream.Rollouts, "hf.rollout.a", newer))
	if got := each(t, ctx, w, stream.Rollouts, "", 0); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
	next, err := w.Hub.PutIf(ctx, "hf.rollout.a", []byte("3"), 0)
	if err != nil || next <= newer {
		t.Errorf("written anew at %d, %v", next, err)
	}
}

func testEach(t *testing.T, ctx context.Context, w World) {
	if got := each(t, ctx, w, stream.Events, "", 0); len(got) != 0 {
		t.Errorf("an empty stream gave %q", got)
	}
	var sequences []uint64
	for i := range 6 {
		site := []bundle.SiteID{one, two}[i%2]
		n, err := w.Hub.Put(ctx, fleetsync.EventSubject(site), []byte(fmt.Sprint(i)))
		must(t, err)
		sequences = append(sequences, n)
	}
	for _, c := range []struct {
		filter string
		from   uint64
		want   string
	}{
		{"", 0, "0 1 2 3 4 5"},
		{"", sequences[3], "3 4 5"},
		{"", sequences[5] + 1, ""},
		{fleetsync.EventSubject(two), 0, "1 3 5"},
		{fleetsync.EventSubject(two), sequences[2], "3 5"},
		{fleetsync.EventSubject("shop-3"), 0, ""},
	} {
		var got []string
		for _, m := range each(t, ctx, w, stream.Events, c.filter, c.from) {
			got = append(got, m[strings.Index(m, "=")+1:])
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("filter %q from %d: got %q, want %q", c.filter, c.from, got, c.want)
		}
	}
	stop := errors.New("enough")
	wantErr(t, "stopped by the reader", w.Hub.Each(ctx, stream.Events, "", 0, func(stream.Message) error { return stop }), stop)
}

func testFollow(t *testing.T, ctx context.Context, w World) {
	subject := fleetsync.EventSubject(one)
	first, err := w.Hub.Put(ctx, subject, []byte("0"))
	must(t, err)
	_, err = w.Hub.Put(ctx, subject, []byte("1"))
	must(t, err)
	got, done := make(chan string, 10), make(chan error, 1)
	following, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		done <- w.Hub.Follow(following, stream.Events, first+1, func(m stream.Message) error {
			got <- string(m.Data)
			return nil
		})
	}()
	for i := 2; i < 5; i++ {
		_, err := w.Hub.Put(ctx, subject, []byte(fmt.Sprint(i)))
		must(t, err)
	}
	for i := 1; i < 5; i++ {
		select {
		case s := <-got:
			if s != fmt.Sprint(i) {
				t.Errorf("got %q, want %d", s, i)
			}
		case <-ctx.Done():
			t.Fatalf("message %d did not come", i)
		}
	}
	stop()
	wantErr(t, "after the end", <-done, context.Canceled)
	bad := errors.New("cannot fold")
	wantErr(t, "error of the reader", w.Hub.Follow(ctx, stream.Events, 0, func(stream.Message) error { return bad }), bad)
}

func testSite(t *testing.T, ctx context.Context, w World) {
	l := linked(t, w, one)
	_, err := l.Get(ctx, fleetsync.DesiredSubject(one))
	wantErr(t, "no assignment yet", err, fleetsync.ErrNotFound)
	for subject, data := range map[string]string{
		fleetsync.DesiredSubject(one):              "assignment",
		fleetsync.AckSubject(one):                  "ack",
		fleetsync.BundleSubject(digest):            "offer",
		fleetsync.BlobSubject(digest, 3):           "",
		fleetsync.DeltaSubject(digest, digest, 12): strings.Repeat("delta", 50_000),
	} {
		_, err := w.Hub.Put(ctx, subject, []byte(data))
		must(t, err)
		got, err := l.Get(ctx, subject)
		if err != nil || string(got) != data {
			t.Errorf("%s: got %.40q, %v", subject, got, err)
		}
	}
	must(t, l.Report(ctx, fleetsync.StateSubject(one), []byte("state")))
	must(t, l.Report(ctx, fleetsync.StateSubject(one), []byte("newer")))
	m, err := w.Hub.Get(ctx, fleetsync.StateSubject(one))
	if err != nil || string(m.Data) != "newer" {
		t.Errorf("state: got %q, %v", m.Data, err)
	}
}

func testDenied(t *testing.T, ctx context.Context, w World) {
	_, err := w.Hub.Put(ctx, fleetsync.DesiredSubject(two), []byte("secret"))
	must(t, err)
	l := linked(t, w, one)
	for _, subject := range []string{fleetsync.DesiredSubject(two), fleetsync.AckSubject(two), fleetsync.StateSubject(one), "hf.site.shop-1", "hf.desired.*", "hf.desired.>", "", "hf.catalog.shop.1.0.0"} {
		if data, err := l.Get(ctx, subject); !errors.Is(err, stream.ErrDenied) {
			t.Errorf("get %q: got %q, %v", subject, data, err)
		}
	}
	for _, subject := range []string{fleetsync.StateSubject(two), fleetsync.EventSubject(two), fleetsync.DesiredSubject(one), "hf.event.*", ""} {
		wantErr(t, "report "+subject, l.Report(ctx, subject, []byte("forged")), stream.ErrDenied)
	}
	wantErr(t, "hello of another", l.Hello(ctx, fleetsync.HelloSubject(two), nil), stream.ErrDenied)
}

func testReports(t *testing.T, ctx context.Context, w World) {
	l := linked(t, w, one)
	for i := range 20 {
		must(t, l.Report(ctx, fleetsync.EventSubject(one), []byte(fmt.Sprint("batch ", i))))
	}
	got := each(t, ctx, w, stream.Events, "", 0)
	if len(got) != 20 || got[19] != fleetsync.EventSubject(one)+"=batch 19" {
		t.Errorf("%d batches, %q", len(got), got)
	}
}

func testLimits(t *testing.T, ctx context.Context, w World) {
	l := linked(t, w, one)
	must(t, l.Report(ctx, fleetsync.EventSubject(one), make([]byte, stream.MaxReport)))
	wantErr(t, "report", l.Report(ctx, fleetsync.EventSubject(one), make([]byte, stream.MaxReport+1)), stream.ErrTooLarge)
	_, err := w.Hub.Put(ctx, fleetsync.BundleSubject(digest), make([]byte, stream.MaxMessage+1))
	wantErr(t, "put", err, stream.ErrTooLarge)
	largest := make([]byte, stream.MaxMessage-4096) // headers count as well
	_, err = w.Hub.Put(ctx, fleetsync.BundleSubject(digest), largest)
	must(t, err)
	if got, err := l.Get(ctx, fleetsync.BundleSubject(digest)); err != nil || len(got) != len(largest) {
		t.Errorf("the largest offer: %d bytes, %v", len(got), err)
	}
}

func testPokeHello(t *testing.T, ctx context.Context, w World) {
	type heard struct {
		site bundle.SiteID
		data string
	}
	hellos := make(chan heard, 10)
	stop, err := w.Hub.OnHello(func(site bundle.SiteID, data []byte) { hellos <- heard{site, string(data)} })
	must(t, err)
	defer stop()
	l := linked(t, w, one)
	other := linked(t, w, two)
	must(t, l.Hello(ctx, fleetsync.HelloSubject(one), []byte("alive")))
	select {
	case h := <-hellos:
		if h != (heard{one, "alive"}) {
			t.Errorf("got %v", h)
		}
	case <-ctx.Done():
		t.Fatal("no hello")
	}
	must(t, w.Hub.Poke(two))
	must(t, w.Hub.Poke(one))
	Await(t, l, fleetsync.LinkPoke)
	Await(t, other, fleetsync.LinkPoke)
	must(t, w.Hub.Poke("shop-nobody"))
	must(t, w.Hub.Answer(one, []byte("what is newest")))
	select {
	case n := <-l.Notices():
		if n.Kind != fleetsync.LinkPoke || string(n.Data) != "what is newest" {
			t.Errorf("got %s with %q", n.Kind, n.Data)
		}
	case <-ctx.Done():
		t.Fatal("no answer")
	}
}

func testCut(t *testing.T, ctx context.Context, w World) {
	l := linked(t, w, one)
	w.Cut(one)
	Await(t, l, fleetsync.LinkDown)
	_, err := l.Get(ctx, fleetsync.DesiredSubject(one))
	wantErr(t, "get", err, fleetsync.ErrNoLink)
	wantErr(t, "report", l.Report(ctx, fleetsync.EventSubject(one), nil), fleetsync.ErrNoLink)
	wantErr(t, "hello", l.Hello(ctx, fleetsync.HelloSubject(one), nil), fleetsync.ErrNoLink)
	_, err = w.Hub.Put(ctx, fleetsync.DesiredSubject(one), []byte("while away"))
	must(t, err)
	must(t, w.Hub.Poke(one))
	w.Mend(one)
	Await(t, l, fleetsync.LinkUp)
	got, err := l.Get(ctx, fleetsync.DesiredSubject(one))
	if err != nil || string(got) != "while away" {
		t.Errorf("after mending: %q, %v", got, err)
	}
	must(t, w.Hub.Poke(one))
	Await(t, l, fleetsync.LinkPoke)

	away := w.Link(t, two)
	defer away.Close()
	w.Cut(two)
	w.Mend(two)
	Await(t, away, fleetsync.LinkUp)
}

func testClose(t *testing.T, ctx context.Context, w World) {
	l := linked(t, w, one)
	must(t, l.Close())
	must(t, l.Close())
	for range l.Notices() {
	}
	_, err := l.Get(ctx, fleetsync.DesiredSubject(one))
	wantErr(t, "get", err, fleetsync.ErrNoLink)
	wantErr(t, "report", l.Report(ctx, fleetsync.EventSubject(one), nil), fleetsync.ErrNoLink)
}
