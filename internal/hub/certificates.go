package hub

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/wholefile"
)

// certificates are what the hub's servers show, and what sites and the CLI pin: the hub's own authority, or files that somebody else keeps.
type certificates interface {
	tls() *tls.Config
	// pinned are the CA certificates in PEM that new sites, devices and contexts are given.
	pinned() string
	// trouble is why something newer is not shown; nil where it is.
	trouble() error
}

var _, _ certificates = (*authority)(nil), (*givenCertificate)(nil)

func (a *authority) pinned() string { return string(a.caPEM) }

func (a *authority) trouble() error { return nil }

// CertificateFiles are the certificate that the hub's servers show instead of one by its own CA.
type CertificateFiles struct {
	Cert string // PEM: the certificate, then intermediates
	Key  string // PEM
	CA   string // PEM: what sites, devices and the CLI believe. May hold two while one replaces the other
}

// maxCertificateFile bounds each of the files, in bytes.
const maxCertificateFile = 1 << 20

// reloadEvery is how often the files are looked at; SIGHUP looks at once.
const reloadEvery = 10 * time.Second

// givenCertificate shows what the files hold. What they hold later is shown to new connections once it is as good as what it replaces; the
// connections there are stay. Files that are not keep the old certificate in use, and are complained of.
type givenCertificate struct {
	files CertificateFiles
	hosts []string // that it must be good for
	now   func() time.Time
	log   *zap.Logger

	mu      sync.Mutex
	current *tls.Certificate
	ca      []byte
	roots   *x509.CertPool
	seen    [3]fileState
	failed  error
}

// fileState tells that a file was changed.
type fileState struct {
	changed time.Time
	size    int64
}

func openCertificate(files CertificateFiles, hosts []string, now func() time.Time, log *zap.Logger) (*givenCertificate, error) {
	g := &givenCertificate{files: files, hosts: hosts, now: now, log: log}
	g.seen = g.look()
	if err := g.load(); err != nil {
		return nil, hinted{fmt.Errorf("certificate: %w", err), "--tls-cert, --tls-key and --tls-ca belong together; without them the hub makes a CA of its own"}
	}
	return g, nil
}

func (g *givenCertificate) tls() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.current, nil
		},
	}
}

func (g *givenCertificate) pinned() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return string(g.ca)
}

func (g *givenCertificate) trouble() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failed != nil {
		return fmt.Errorf("what the files hold now is not used, the one before is: %w", g.failed)
	}
	if left := g.current.Leaf.NotAfter.Sub(g.now()); left < 7*24*time.Hour {
		return fmt.Errorf("it ends at %s: put a newer one into %s", g.current.Leaf.NotAfter.UTC().Format(time.RFC3339), g.files.Cert)
	}
	return nil
}

// watch looks at the files until ctx ends.
func (g *givenCertificate) watch(ctx context.Context) {
	every(ctx, reloadEvery, func() { g.reload(false) })
}

// reload takes what the files hold if they changed, or in any case.
func (g *givenCertificate) reload(always bool) {
	seen := g.look()
	g.mu.Lock()
	before := g.failed
	// While it fails it is tried again: three files are not replaced in one moment.
	idle := !always && seen == g.seen && before == nil
	g.seen = seen
	g.mu.Unlock()
	if idle {
		return
	}
	err := g.load()
	g.mu.Lock()
	g.failed = err
	g.mu.Unlock()
	switch {
	case err != nil && (before == nil || before.Error() != err.Error()):
		g.log.Error("the new certificate is not used: the one before stays", zap.Error(err))
	case err == nil:
		g.log.Info("certificate read anew", zap.Time("until", g.current.Leaf.NotAfter))
	}
}

func (g *givenCertificate) look() (seen [3]fileState) {
	for i, name := range []string{g.files.Cert, g.files.Key, g.files.CA} {
		if info, err := os.Stat(name); err == nil {
			seen[i] = fileState{info.ModTime(), info.Size()}
		}
	}
	return seen
}

// load reads the files, and changes nothing where they do not fit together, the hub's hosts or its clients.
func (g *givenCertificate) load() error {
	var raw [3][]byte
	for i, name := range []string{g.files.Cert, g.files.Key, g.files.CA} {
		var err error
		if raw[i], err = wholefile.Read(name, maxCertificateFile); err != nil {
			return err
		}
	}
	// Its errors speak of PEM blocks and never repeat them.
	pair, err := tls.X509KeyPair(raw[0], raw[1])
	if err != nil {
		return fmt.Errorf("%s and %s: %w", g.files.Cert, g.files.Key, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(raw[2]) {
		return fmt.Errorf("%s: there is no certificate in it", g.files.CA)
	}
	if err := g.check(pair, roots); err != nil {
		return fmt.Errorf("%s: %w", g.files.Cert, err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.roots != nil {
		// Whoever was let in before pins what was in the CA file then.
		if err := g.check(pair, g.roots); err != nil {
			return fmt.Errorf("%s: sites and desks believe the CA file as it was, and would refuse the hub: %w: have the old CA sign it until they know the new one", g.files.Cert, err)
		}
	}
	g.current, g.ca, g.roots = &pair, raw[2], roots
	return nil
}

func (g *givenCertificate) check(pair tls.Certificate, roots *x509.CertPool) error {
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: g.now()}); err != nil {
		return err
	}
	for _, host := range g.hosts {
		if err := pair.Leaf.VerifyHostname(host); err != nil {
			return err
		}
	}
	return nil
}

// openCertificates gives what the servers show, and keeps it up to date.
func (h *Hub) openCertificates(ring keyring) error {
	if h.cfg.Certificate == nil {
		own, err := openAuthority(ring, certificateNames(h.cfg.Hosts), h.cfg.Now)
		if err != nil {
			return err
		}
		h.certificates = own
		return nil
	}
	if len(h.cfg.Hosts) == 0 {
		return hinted{errors.New("certificate: it is for no host"), "say with --host by which name sites and desks reach the hub"}
	}
	given, err := openCertificate(*h.cfg.Certificate, h.cfg.Hosts, h.cfg.Now, h.log.Named("certificate"))
	if err != nil {
		return err
	}
	h.certificates = given
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { given.watch(ctx) })
	h.closers = append(h.closers, func() {
		stop()
		running.Wait()
	})
	return nil
}

// Reload looks at once at the files that the hub otherwise looks at now and then.
func (h *Hub) Reload() {
	if given, are := h.certificates.(*givenCertificate); are {
		given.reload(true)
	}
}

// busCA is what new sites are to believe of the bus's servers.
func (h *Hub) busCA() string {
	if h.cfg.External != nil {
		return string(h.cfg.External.CA)
	}
	return h.certificates.pinned()
}
