package hub

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/wholefile"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// issuer makes certificates as a company's own CA would.
func issuer(t *testing.T, names ...string) *authority {
	t.Helper()
	ring, err := openKeyring(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	a, err := openAuthority(ring, names, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// issue writes a new certificate and its CAs where the hub reads them.
func (f CertificateFiles) issue(t *testing.T, by *authority, cas ...*authority) {
	t.Helper()
	pair, err := by.makeServer()
	if err != nil {
		t.Fatal(err)
	}
	var ca []byte
	for _, one := range cas {
		ca = append(ca, one.caPEM...)
	}
	for name, data := range map[string][]byte{f.Cert: pair, f.Key: pair, f.CA: ca} {
		if err := wholefile.Replace(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// shownBy is the serial number of the certificate that a new TLS connection sees.
func shownBy(t *testing.T, address, ca string) string {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(ca))
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: "127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

func TestGivenCertificatesAreReadAnew(t *testing.T) {
	dir := t.TempDir()
	files := CertificateFiles{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")}
	company, next, stranger := issuer(t, "127.0.0.1"), issuer(t, "127.0.0.1"), issuer(t, "127.0.0.1")
	files.issue(t, company, company)
	cfg := configOf(t, t.TempDir())
	cfg.Certificate, cfg.Hosts, cfg.ListenWebSocket = &files, []string{"127.0.0.1"}, "127.0.0.1:0"
	h := startHub(t, cfg)
	client, target := clientOf(t, h), contextOf(t, h)
	if target.CA != string(company.caPEM) {
		t.Error("the admin's context does not pin the given CA")
	}
	site := addSite(t, client, "shop-1", nil) // over the given certificate
	api, err := url.Parse(h.URL())
	if err != nil {
		t.Fatal(err)
	}
	web := strings.TrimPrefix(h.Servers()[1], "wss://")
	concerns := func() string { return strings.Join(said(h.concerns()), "\n") }

	first := shownBy(t, api.Host, target.CA)
	if other := shownBy(t, web, target.CA); other != first {
		t.Errorf("the bus over WebSocket shows %s, the API %s", other, first)
	}
	files.issue(t, company, company, next) // the next CA is announced
	h.Reload()
	second := shownBy(t, api.Host, target.CA)
	if second == first || shownBy(t, web, target.CA) != second || concerns() != "" {
		t.Errorf("still %s, concerns %q", second, concerns())
	}
	if pinned := contextOf(t, h).CA; h.busCA() != string(company.caPEM)+string(next.caPEM) || pinned != target.CA {
		t.Errorf("new sites are given %q", h.busCA())
	}

	// What is no good is not used, and is complained of until it is.
	for name, spoil := range map[string]func(){
		"no PEM":           func() { _ = os.WriteFile(files.Cert, []byte("x"), 0o600) },
		"another key":      func() { pair, _ := company.makeServer(); _ = os.WriteFile(files.Key, pair, 0o600) },
		"an unknown CA":    func() { files.issue(t, stranger, company, next) },
		"CAs all replaced": func() { files.issue(t, stranger, stranger) },
		"another host":     func() { files.issue(t, issuer(t, "elsewhere.example"), stranger) },
		"no CA":            func() { _ = os.WriteFile(files.CA, nil, 0o600) },
		"gone":             func() { _ = os.Remove(files.Key) },
		"too large":        func() { _ = os.WriteFile(files.CA, make([]byte, maxCertificateFile+1), 0o600) },
	} {
		spoil()
		h.Reload()
		if shownBy(t, api.Host, target.CA) != second || !strings.Contains(concerns(), "certificate: ") || strings.Contains(concerns(), "PRIVATE") {
			t.Errorf("%s: shows %s, concerns %q", name, shownBy(t, api.Host, target.CA), concerns())
		}
		if version, err := client.Version(t.Context()); err != nil || len(version.Warnings) != 1 {
			t.Errorf("%s: doctor is told %+v, %v", name, version, err)
		}
		files.issue(t, company, company, next)
		h.Reload()
		if concerns() != "" {
			t.Errorf("after %s: %s", name, concerns())
		}
		second = shownBy(t, api.Host, target.CA)
	}
	// The other CA takes over once it was announced; those who know both are let through.
	files.issue(t, next, next)
	h.Reload()
	if third := shownBy(t, api.Host, string(next.caPEM)); third == second || concerns() != "" {
		t.Errorf("the next CA's certificate is not shown: %s", concerns())
	}
	// The connection of before is none the worse.
	site.report(fleetsync.TypeEvents, fleetsync.EventSubject("shop-1"), batch("shop-1", "a", 1, 1))
	eventually(t, "the event is in", func() bool { return site.acked() == 1 })
	select {
	case n := <-site.link.Notices():
		if n.Kind == fleetsync.LinkDown {
			t.Error("the long-lived connection was cut")
		}
	default:
	}
}

func TestABadCertificateStartsNoHub(t *testing.T) {
	dir := t.TempDir()
	files := CertificateFiles{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), filepath.Join(dir, "ca.crt")}
	for name, prepare := range map[string]func(){
		"none":         func() {},
		"another host": func() { a := issuer(t, "elsewhere.example"); files.issue(t, a, a) },
		"another CA":   func() { files.issue(t, issuer(t, "127.0.0.1"), issuer(t)) },
	} {
		prepare()
		cfg := configOf(t, t.TempDir())
		cfg.Certificate, cfg.Hosts = &files, []string{"127.0.0.1"}
		if h, err := Open(t.Context(), cfg); err == nil {
			h.Close()
			t.Errorf("%s: the hub starts", name)
		} else if !strings.Contains(err.Error(), "certificate: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
