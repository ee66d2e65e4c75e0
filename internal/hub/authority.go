package hub

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/wholefile"
)

const (
	caLifetime     = 20 * 365 * 24 * time.Hour
	serverLifetime = 365 * 24 * time.Hour
	clockSkew      = time.Hour // a peer's clock may be behind by so much
)

// authority is the hub's own CA and the server certificate it signs: the one thing that sites and the CLI pin.
type authority struct {
	keys  keyring
	names []string // sorted; DNS names and IP addresses of the server certificate
	ca    *x509.Certificate
	caKey *ecdsa.PrivateKey
	caPEM []byte
	now   func() time.Time

	mu      sync.Mutex
	current *tls.Certificate
}

// openAuthority reads the CA, or makes it at first start, and sees to a server certificate with the names.
func openAuthority(keys keyring, names []string, now func() time.Time) (*authority, error) {
	names = slices.Clone(names)
	for i, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			names[i] = ip.String()
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	a := &authority{keys: keys, names: names, now: now}
	raw, err := keys.once("ca.pem", a.makeCA)
	if err != nil {
		return nil, err
	}
	if a.ca, a.caKey, err = parsePair(raw); err != nil {
		return nil, fmt.Errorf("key file ca.pem: %w", err)
	}
	a.caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.ca.Raw})
	if raw, err = keys.once("server.pem", a.makeServer); err != nil {
		return nil, err
	}
	if a.current, err = tlsPair(raw); err != nil {
		return nil, fmt.Errorf("key file server.pem: %w", err)
	}
	_, err = a.certificate()
	return a, err
}

// tls is how the hub's servers speak: TLS 1.3 and the certificate of the moment.
func (a *authority) tls() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS13,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return a.certificate() },
	}
}

// certificate is the server certificate, renewed where less than a third of its life is left or its names are others.
func (a *authority) certificate() (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	leaf := a.current.Leaf
	left := leaf.NotAfter.Sub(a.now())
	if left > leaf.NotAfter.Sub(leaf.NotBefore)/3 && slices.Equal(namesOf(leaf), a.names) && leaf.CheckSignatureFrom(a.ca) == nil {
		return a.current, nil
	}
	raw, err := a.makeServer()
	if err != nil {
		return nil, fmt.Errorf("server certificate: renew: %w", err)
	}
	renewed, err := tlsPair(raw)
	if err != nil {
		return nil, fmt.Errorf("server certificate: renew: %w", err)
	}
	a.current = renewed
	return renewed, wholefile.Replace(filepath.Join(a.keys.dir, "server.pem"), raw, 0o600)
}

func namesOf(leaf *x509.Certificate) []string {
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	slices.Sort(names)
	return names
}

func (a *authority) makeCA() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := a.template("Holdfast hub CA", caLifetime)
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return encodePair(der, key)
}

func (a *authority) makeServer() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := a.template("Holdfast hub", serverLifetime)
	template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range a.names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.ca, key.Public(), a.caKey)
	if err != nil {
		return nil, err
	}
	return encodePair(der, key)
}

func (a *authority) template(name string, lifetime time.Duration) *x509.Certificate {
	now := a.now()
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes([]byte(rand.Text()[:16])), Subject: pkix.Name{CommonName: name},
		NotBefore: now.Add(-clockSkew), NotAfter: now.Add(lifetime),
	}
}

func encodePair(der []byte, key *ecdsa.PrivateKey) ([]byte, error) {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	raw := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return append(raw, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...), nil
}

func tlsPair(raw []byte) (*tls.Certificate, error) {
	pair, err := tls.X509KeyPair(raw, raw)
	if err != nil {
		return nil, err
	}
	if pair.Leaf == nil {
		return nil, errors.New("no certificate")
	}
	return &pair, nil
}

func parsePair(raw []byte) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	pair, err := tlsPair(raw)
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("the key is %T, want ECDSA", pair.PrivateKey)
	}
	return pair.Leaf, key, nil
}
