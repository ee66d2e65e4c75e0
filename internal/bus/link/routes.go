package link

import (
	"fmt"
	"net/url"
	"strings"
)

// routes are the ways to the hub in the order in which they are tried: neighbouring addresses of one transport are one route, because a
// client connection speaks one. What led to the hub last is tried first.
type routes struct {
	all [][]string
	at  int
	// tried is how many routes in a row led nowhere.
	tried int
}

// routesTo groups addresses: tls://host:port is NATS over TLS, wss://host:port over WebSocket.
func routesTo(servers []string) (routes, error) {
	var r routes
	last := ""
	for _, s := range servers {
		if err := CheckServer(s); err != nil {
			return r, err
		}
		scheme, _, _ := strings.Cut(s, "://")
		if scheme != last {
			r.all = append(r.all, nil)
		}
		r.all[len(r.all)-1] = append(r.all[len(r.all)-1], s)
		last = scheme
	}
	return r, nil
}

// CheckServer refuses what is no address of a bus.
func CheckServer(server string) error {
	u, err := url.Parse(server)
	if err != nil || u.Scheme != "tls" && u.Scheme != "wss" || u.Hostname() == "" || u.Port() == "" || u.User != nil {
		return fmt.Errorf("%.200q: want tls://host:port or wss://host:port", withoutUser(u, server))
	}
	return nil
}

// withoutUser keeps a password that somebody put into an address out of the error.
func withoutUser(u *url.URL, text string) string {
	if u == nil || u.User != nil {
		return "…"
	}
	return text
}

func (r *routes) now() []string { return r.all[r.at] }

func (r *routes) several() bool { return len(r.all) > 1 }

// worked says that the route of the moment led to the hub.
func (r *routes) worked() { r.tried = 0 }

// next takes the next route, and tells whether all were tried, so that it is time to rest.
func (r *routes) next() (rest bool) {
	r.at = (r.at + 1) % len(r.all)
	r.tried++
	if r.tried < len(r.all) {
		return false
	}
	r.tried = 0
	return true
}
