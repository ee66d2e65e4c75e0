package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// page is a ConfigMap in memory: what pageNotes of one and many lives write on.
type page struct {
	mu      sync.Mutex
	text    []byte
	version int // 0: there is none
	fault   func() error
}

// pageNote is a Notebook on a page.
type pageNote struct {
	page *page
	seen int
}

func (n *pageNote) Read(context.Context) ([]byte, error) {
	n.page.mu.Lock()
	defer n.page.mu.Unlock()
	if err := n.page.broken(); err != nil {
		return nil, err
	}
	n.seen = n.page.version
	return bytes.Clone(n.page.text), nil
}

func (n *pageNote) Write(_ context.Context, note []byte) error {
	n.page.mu.Lock()
	defer n.page.mu.Unlock()
	if err := n.page.broken(); err != nil {
		return err
	}
	if n.seen != n.page.version {
		return errNoteChanged
	}
	n.page.version++
	n.seen, n.page.text = n.page.version, bytes.Clone(note)
	return nil
}

func (p *page) broken() error {
	if p.fault == nil {
		return nil
	}
	return p.fault()
}

func (p *page) now() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.text)
}

// put writes what somebody else does; nothing takes the page away.
func (p *page) put(text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text = bytes.Clone(text)
	if p.version++; len(text) == 0 {
		p.version = 0
	}
}

func (p *page) fail(f func() error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// notebooks is what every Notebook does. open begins a life with what earlier ones left, and takeAway is somebody who deletes it.
func notebooks(t *testing.T, open func() Notebook, takeAway func()) {
	ctx := t.Context()
	read := func(book Notebook, want string) {
		t.Helper()
		if raw, err := book.Read(ctx); err != nil || string(raw) != want {
			t.Fatalf("reads %q, %v, want %q", raw, err, want)
		}
	}
	first := open()
	read(first, "")
	for _, text := range []string{"one", "two", strings.Repeat("x", fleetsync.MaxNote)} {
		if err := first.Write(ctx, []byte(text)); err != nil {
			t.Fatal(err)
		}
		read(open(), text)
	}
	second := open()
	read(second, strings.Repeat("x", fleetsync.MaxNote))
	if err := second.Write(ctx, []byte("three")); err != nil {
		t.Fatal(err)
	}
	if err := first.Write(ctx, []byte("lost")); !errors.Is(err, errNoteChanged) {
		t.Fatalf("over what somebody else wrote: %v", err)
	}
	read(first, "three")
	takeAway()
	if err := first.Write(ctx, []byte("lost")); !errors.Is(err, errNoteChanged) {
		t.Fatalf("in the place of what is gone: %v", err)
	}
	read(first, "")
	if err := first.Write(ctx, []byte("four")); err != nil {
		t.Fatal(err)
	}
	read(second, "four")
}

func TestNotebooks(t *testing.T) {
	t.Run("in memory", func(t *testing.T) {
		p := &page{}
		notebooks(t, func() Notebook { return &pageNote{page: p} }, func() { p.put(nil) })
	})
	t.Run("in a cluster", func(t *testing.T) {
		if testing.Short() {
			t.Skip("needs a control plane")
		}
		c := cluster.Shared(t)
		conn, err := kube.Connect(c.Config())
		must(t, err)
		hands := kubernetes.NewForConfigOrDie(c.Config()).CoreV1()
		_, err = hands.Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "notes"}}, metav1.CreateOptions{})
		must(t, err)
		notebooks(t, func() Notebook {
			book, err := Config{Note: "notes/mine"}.notebook(conn, shop1)
			must(t, err)
			return book
		}, func() { must(t, hands.ConfigMaps("notes").Delete(t.Context(), "mine", metav1.DeleteOptions{})) })
	})
}

// T3: whichever of the places are lost – the store, the counters beside it, the note in the cluster – what remains of them refuses the older release; and
// when all are lost, the note that the hub echoes does.
func TestT03_WhatRemainsOfThePlacesRefuses(t *testing.T) {
	for lost := range 8 {
		var names []string
		for i, name := range []string{"store", "anchor", "cluster"} {
			if lost&(1<<i) != 0 {
				names = append(names, name)
			}
		}
		t.Run("lost: "+strings.Join(names, " and "), func(t *testing.T) {
			t.Parallel()
			l := newLife(t)
			l.page, l.echoes = &page{}, true
			l.answering()
			l.start()
			for _, step := range l.steps() {
				step()
			}
			l.whole("the note has the newest counter", func() bool { return bytes.Contains(l.page.now(), []byte(`"counter":2`)) })
			l.whole("the hub has the note", func() bool { return bytes.Equal(l.seen().Note, l.page.now()) })
			l.halt()
			if lost&1 != 0 {
				l.disk = memstore.NewDisk()
			}
			if lost&2 != 0 {
				l.marks = verify.Counters{}
			}
			if lost&4 != 0 {
				l.page.put(nil)
			}
			l.assign(l.one)
			l.start()
			l.whole("the older release is refused", func() bool {
				s := l.status("shop")
				return s.Phase == fleetsync.PhaseRefused && s.Desired == "1.0.0" && s.Reason == string(verify.OlderCounter)
			})
			if l.value("a") != "2" {
				t.Errorf("a is %s", l.value("a"))
			}
			l.whole("the note is there again", func() bool { return bytes.Contains(l.page.now(), []byte(`"counter":2`)) })
			behind, gone := l.told(fleetsync.EventPutBack), l.told(fleetsync.EventNoteBehind)
			if (len(behind) > 0) != (lost&1 != 0) || (len(gone) > 0) != (lost == 4 || lost == 6) {
				t.Errorf("told %+v and %+v", behind, gone)
			}
		})
	}
}

// F8: an image of the disk, store and counters beside it, is put back while the hub is away. What the image ran is not put back, because of the note in the
// cluster; with the hub there again the site has what is newest.
func TestF08_OldImageOfTheDisk(t *testing.T) {
	l := newLife(t)
	l.page = &page{}
	l.answering()
	l.start()
	l.steps()[0]()
	l.current("1.0.0")
	l.halt()
	image, marks := memstore.NewDisk(), l.marks
	copied(t, l.disk.Open(), image.Open())
	l.start()
	l.push(l.two)
	l.assign(l.two)
	l.current("1.1.0")
	l.whole("the note has the newest counter", func() bool { return bytes.Contains(l.page.now(), []byte(`"counter":2`)) })
	l.halt()

	l.disk, l.marks = image, marks
	l.bus.Cut(shop1)
	l.start()
	l.whole("the image is refused", func() bool {
		s, err := l.agent.Status(t.Context())
		return err == nil && len(s.State.Bundles) == 1 && s.State.Bundles[0].Phase == fleetsync.PhaseRefused && s.State.Bundles[0].Reason == string(verify.OlderCounter)
	})
	if l.value("a") != "2" || l.value("c") != "1" {
		t.Errorf("a is %q and c is %q", l.value("a"), l.value("c"))
	}
	l.bus.Mend(shop1)
	l.current("1.1.0")
	l.whole("it is told", func() bool { return len(l.told(fleetsync.EventPutBack)) == 1 }) // under a new epoch: the image's numbers are taken
	if told := l.told(fleetsync.EventPutBack); !strings.Contains(told[0].Message, "shop counter 2, here 1; assignment 2, here 1") || !told[0].Offline {
		t.Errorf("told %+v", told)
	}
	if l.value("a") != "2" || l.seen().PutBack != "" {
		t.Errorf("a is %q, and the site says %q", l.value("a"), l.seen().PutBack)
	}
}

func copied(t *testing.T, from, to fleetsync.Store) {
	t.Helper()
	var records []fleetsync.Record
	must(t, from.Scan("", func(key string, value []byte) error {
		records = append(records, fleetsync.Record{Key: key, Value: bytes.Clone(value)})
		return nil
	}))
	for _, r := range records {
		must(t, to.Commit(r))
	}
}

// A cluster that keeps no note stops nothing and is told once, with what is missing; one that does not answer is waited for, and with it everything that
// would change it; and one that takes notes again has the newest.
func TestT03_AClusterWithoutANote(t *testing.T) {
	forbidden := &apply.ServerError{Code: 403, Words: "configmaps is forbidden"}
	for name, c := range map[string]struct {
		err  error
		says string
	}{
		"forbidden": {fmt.Errorf("ConfigMap/holdfast-system/holdfast-edge-note: %w", forbidden), hintNote},
		"failing":   {&apply.ServerError{Code: 500, Words: "etcd has no leader"}, "etcd has no leader"},
		"away":      {&apply.ServerError{Words: "connection refused"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLife(t)
			l.page = &page{fault: func() error { return c.err }}
			l.answering()
			l.assign(l.one)
			l.start()
			if c.says == "" {
				l.whole("it is said", func() bool { return strings.Contains(l.seen().PutBack, "connection refused") })
				l.whole("the bundle is there", func() bool { return l.status("shop").Phase == fleetsync.PhaseAccepted })
				if l.value("a") != "" {
					t.Errorf("begun without the note: a is %q", l.value("a"))
				}
			} else {
				l.current("1.0.0")
				l.whole("it is told", func() bool {
					return len(l.told(fleetsync.EventNoteFailed)) == 1 && strings.Contains(l.told(fleetsync.EventNoteFailed)[0].Message, c.says)
				})
				l.whole("it is shown", func() bool { return strings.Contains(l.seen().PutBack, "noteNotKept: ") })
			}
			l.page.fail(nil)
			l.current("1.0.0")
			l.whole("the note is kept", func() bool { return bytes.Contains(l.page.now(), []byte(`"counter":1`)) && l.seen().PutBack == "" })
			if told := l.told(fleetsync.EventNoteFailed); len(told) > 1 {
				t.Errorf("told %d times", len(told))
			}
		})
	}
}

// What is in the place of the note and is not the site's is told, not believed, and replaced.
func TestT26_NotesOfOthersAreNotBelieved(t *testing.T) {
	forged, err := fleetsync.SealNote([]byte("another key"), fleetsync.Note{Site: shop1, Number: 9, Marks: verify.Counters{"shop": {Counter: 99, Digest: bundle.DigestOf(nil)}}})
	must(t, err)
	for name, note := range map[string]string{"forged": string(forged), "garbage": "{", "too large": strings.Repeat(" ", fleetsync.MaxNote+1)} {
		t.Run(name, func(t *testing.T) {
			l := newLife(t)
			l.page = &page{}
			l.page.put([]byte(note))
			l.answering()
			l.assign(l.one)
			l.start()
			l.current("1.0.0")
			l.whole("it is told", func() bool { return len(l.told(fleetsync.EventNoteRefused)) == 1 })
			l.whole("it is replaced", func() bool {
				n, err := fleetsync.OpenNote(sealOf(l.desk.site).of("note"), shop1, l.page.now())
				return err == nil && n.Marks["shop"].Counter == 1
			})
		})
	}
}
