// Package web makes the hub's web pages: HTML from the values that the API gives, and nothing else. It has no clock, no I/O and no session.
//
//	W1  Pages only read. There is no form in them that changes anything but the visitor's own session.
//	W2  Whatever a site or an operator wrote is escaped by html/template; there is no template.HTML in this package.
//	W3  Nothing is fetched from anywhere but the hub, and no style or script is inline, so that the strictest Content-Security-Policy holds.
//	W4  Every fact about a site carries its age, and what was fresh says until when: the script, without another word from the hub, takes the
//	    colour off a cell when its time is over (P8). Without the script a page says as of when it is.
//	W5  No state is told by colour alone.
package web

import (
	"bytes"
	"embed"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

// Policy is the Content-Security-Policy of every page.
const Policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed page static
var files embed.FS

// Frame is what surrounds every page.
type Frame struct {
	Title   string
	Active  string // which entry of the menu
	User    string // empty: nobody is logged in
	Role    string
	Fleet   string
	Version string // of the hub
	Now     time.Time
	// Refresh is how often the page is fetched again, in seconds; 0 is never.
	Refresh int
	Page    any
}

var pages = func() map[string]*template.Template {
	all := map[string]*template.Template{}
	names, err := fs.Glob(files, "page/*.html")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		if base := path.Base(name); base != "frame.html" {
			all[strings.TrimSuffix(base, ".html")] = template.Must(template.New("frame.html").Funcs(words).ParseFS(files, "page/frame.html", name))
		}
	}
	return all
}()

// Render is the page of that name within its frame. An error says that page and value do not fit.
func Render(name string, frame Frame) ([]byte, error) {
	page, known := pages[name]
	if !known {
		return nil, fmt.Errorf("page %q: there is none", name)
	}
	var b bytes.Buffer
	if err := page.Execute(&b, frame); err != nil {
		return nil, fmt.Errorf("page %s: %w", name, err)
	}
	return b.Bytes(), nil
}

// mark names the version of the static files, so that a browser keeps them until they change.
var mark = func() string {
	hash := fnv.New64a()
	err := fs.WalkDir(files, "static", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := files.ReadFile(name)
		hash.Write(raw)
		return err
	})
	if err != nil {
		panic(err)
	}
	return hex.EncodeToString(hash.Sum(nil))
}()

// Static serves style, script and icon. They are the same for everybody.
func Static() http.Handler {
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		raw, err := files.ReadFile("static/" + name)
		if err != nil {
			http.Error(w, "there is no such file", http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", kinds[path.Ext(name)])
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "public, max-age=86400")
		_, _ = w.Write(raw)
	})
}
