package fleet

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Link is a line between a site and the hub that can be cut and mended. It counts the bytes it carries.
type Link struct {
	listener net.Listener
	target   string
	mu       sync.Mutex
	cut      bool
	open     map[net.Conn]bool
	down, up atomic.Int64
	cutAt    atomic.Int64 // of down; 0: never
	flapping atomic.Pointer[Flaps]
	dials    atomic.Int64
}

// NewLink listens on loopback and carries to target.
func NewLink(target string) (*Link, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	link := &Link{listener: l, target: target, open: map[net.Conn]bool{}}
	go link.accept()
	return link, nil
}

// Addr is where the site connects to.
func (l *Link) Addr() string { return l.listener.Addr().String() }

// Bytes are what was carried to the site and to the hub.
func (l *Link) Bytes() (down, up int64) { return l.down.Load(), l.up.Load() }

// Dials counts the connections that were tried, also while the link was cut.
func (l *Link) Dials() int64 { return l.dials.Load() }

// Cut breaks all connections and lets none through until Mend.
func (l *Link) Cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = true
	for c := range l.open {
		_ = c.Close()
	}
}

// CutAfter cuts the link by itself when so many more bytes have been carried to the site.
func (l *Link) CutAfter(bytes int64) { l.cutAt.Store(l.down.Load() + bytes) }

// Flaps is how soon each connection breaks: after the bytes it carried either way, or the time it lived, whichever comes first; 0 is never.
type Flaps struct {
	Bytes int64
	After time.Duration
}

// Flap breaks every connection that begins from now on; the zero Flaps ends that.
func (l *Link) Flap(f Flaps) { l.flapping.Store(&f) }

// WasCut says whether the link is cut.
func (l *Link) WasCut() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cut
}

// Mend lets connections through again.
func (l *Link) Mend() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cut = false
}

// Close ends the link.
func (l *Link) Close() {
	_ = l.listener.Close()
	l.Cut()
}

func (l *Link) accept() {
	for {
		site, err := l.listener.Accept()
		if err != nil {
			return
		}
		l.dials.Add(1)
		go l.carry(site)
	}
}

func (l *Link) carry(site net.Conn) {
	defer site.Close()
	if !l.keep(site) {
		return
	}
	defer l.forget(site)
	hub, err := net.Dial("tcp", l.target)
	if err != nil {
		return
	}
	defer hub.Close()
	if !l.keep(hub) {
		return
	}
	defer l.forget(hub)
	var breaks io.Writer = io.Discard
	if f := l.flapping.Load(); f != nil {
		end := func() { _, _ = site.Close(), hub.Close() }
		if f.Bytes > 0 {
			breaks = &fuse{left: f.Bytes, blow: end}
		}
		if f.After > 0 {
			defer time.AfterFunc(f.After, end).Stop()
		}
	}
	done := make(chan struct{}, 2)
	pump := func(to, from net.Conn, count io.Writer) {
		_, _ = io.Copy(to, io.TeeReader(io.TeeReader(from, count), breaks))
		_ = to.Close()
		done <- struct{}{}
	}
	go pump(site, hub, countdown{l})
	go pump(hub, site, counter{&l.up})
	<-done
	<-done
}

func (l *Link) keep(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.cut {
		l.open[c] = true
	}
	return !l.cut
}

func (l *Link) forget(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.open, c)
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(b []byte) (int, error) {
	c.n.Add(int64(len(b)))
	return len(b), nil
}

// countdown counts what goes to the site and cuts the link at its mark, before the bytes that reach it are carried.
type countdown struct{ link *Link }

func (c countdown) Write(b []byte) (int, error) {
	carried := c.link.down.Add(int64(len(b)))
	if at := c.link.cutAt.Load(); at > 0 && carried >= at && c.link.cutAt.CompareAndSwap(at, 0) {
		c.link.Cut()
	}
	return len(b), nil
}

// fuse blows when so many bytes went through it, before the last of them are carried.
type fuse struct {
	mu   sync.Mutex
	left int64
	blow func()
}

func (f *fuse) Write(b []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.left -= int64(len(b)); f.left <= 0 {
		f.blow()
	}
	return len(b), nil
}
