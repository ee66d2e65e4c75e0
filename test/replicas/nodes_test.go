package replicas

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/bus"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// nodes is a cluster of NATS nodes. From each to each other leads a line of its own, which can be cut.
type nodes struct {
	t         testing.TB
	dir       string
	keys      bus.Keys
	ca        []byte
	roots     *x509.CertPool
	addresses []string // for clients
	processes []*process
	lines     map[[2]int]*fleet.Link
}

func newNodes(t testing.TB, n int) *nodes {
	t.Helper()
	c := &nodes{t: t, dir: t.TempDir(), lines: map[[2]int]*fleet.Link{}, processes: make([]*process, n)}
	var err error
	c.keys, err = bus.NewKeys()
	must(t, err)
	c.certify()
	accounts, err := bus.ServerConfig(c.keys, "")
	must(t, err)
	c.addresses = free(t, n)
	routes := free(t, n)
	for from := range n {
		for to := range n {
			if from != to {
				line, err := fleet.NewLink(routes[to])
				must(t, err)
				t.Cleanup(line.Close)
				c.lines[[2]int{from, to}] = line
			}
		}
	}
	for i := range n {
		var others []string
		for to := range n {
			if to != i {
				others = append(others, "nats-route://"+c.lines[[2]int{i, to}].Addr())
			}
		}
		config := fmt.Sprintf(`server_name: node-%d
listen: %q
tls { cert_file: %q, key_file: %q }
`, i, c.addresses[i], filepath.Join(c.dir, "node.crt"), filepath.Join(c.dir, "node.key"))
		if n > 1 {
			// What the nodes tell each other of their addresses would lead around the lines.
			config += fmt.Sprintf("cluster { name: holdfast, listen: %q, advertise: \"127.0.0.1:9\", no_advertise: true, routes: [%s] }\n", routes[i], `"`+strings.Join(others, `", "`)+`"`)
		}
		config += fmt.Sprintf("jetstream { store_dir: %q, sync_interval: always, limits { default_max_consumers: -1 } }\n%s", filepath.Join(c.dir, fmt.Sprintf("store-%d", i)), accounts)
		must(t, os.WriteFile(c.config(i), []byte(config), 0o600))
		c.start(i)
	}
	return c
}

func (c *nodes) config(i int) string { return filepath.Join(c.dir, fmt.Sprintf("node-%d.conf", i)) }

func (c *nodes) start(i int) {
	c.t.Helper()
	c.processes[i] = start(c.t, c.dir, fmt.Sprintf("node-%d", i), node(c.config(i)))
}

// certify makes a certificate for loopback that is its own CA.
func (c *nodes) certify() {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(c.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "nodes"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(c.t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(c.t, err)
	c.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	must(c.t, os.WriteFile(filepath.Join(c.dir, "node.crt"), c.ca, 0o600))
	must(c.t, os.WriteFile(filepath.Join(c.dir, "node.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	c.roots = x509.NewCertPool()
	c.roots.AppendCertsFromPEM(c.ca)
}

// cut takes a node away from the others, and mend brings it back. Who is connected to it stays.
func (c *nodes) cut(i int) {
	for ends, line := range c.lines {
		if ends[0] == i || ends[1] == i {
			line.Cut()
		}
	}
}

func (c *nodes) mend() {
	for _, line := range c.lines {
		line.Mend()
	}
}

// urls are where clients connect, beginning with the one of node first.
func (c *nodes) urls(first int) (urls []string) {
	for i := range c.addresses {
		urls = append(urls, "tls://"+c.addresses[(first+i)%len(c.addresses)])
	}
	return urls
}

// client connects as a hub does, once the cluster is there.
func (c *nodes) client(node int) (client *bus.Hub) {
	c.t.Helper()
	credentials, err := c.keys.HubUser()
	must(c.t, err)
	eventually(c.t, time.Minute, "the bus answers", func() error {
		for _, p := range c.processes {
			must(c.t, p.ended())
		}
		client, err = bus.ConnectHub(c.t.Context(), bus.HubOptions{URL: c.urls(node)[0], Credentials: credentials, CA: c.roots, Log: zap.NewNop()})
		return err
	})
	c.t.Cleanup(client.Close)
	return client
}

func free(t testing.TB, n int) (addresses []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
