package device

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nkeys"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/hub"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/cosign/sign"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf/tuftest"
)

// startHub is a real hub on free loopback ports, and its admin.
func startHub(t *testing.T, edit func(*hub.Config)) (*hub.Hub, *api.Client) {
	t.Helper()
	_, public, err := sign.GenerateKeyPair(nil)
	must(t, err)
	key, err := verify.NewKey(string(public), "*")
	must(t, err)
	root := tuftest.New(t, &verify.Trust{Schema: verify.TrustSchema, Fleet: "test", Keys: []verify.Key{key}})
	cfg := hub.Config{
		DataDir: t.TempDir(), ListenNATS: "127.0.0.1:0", ListenAPI: "127.0.0.1:0",
		Trust: root.Published, Online: []ed25519.PrivateKey{root.Online}, Signatures: cosign.Verifier{},
	}
	if edit != nil {
		edit(&cfg)
	}
	h, err := hub.Open(t.Context(), cfg)
	must(t, err)
	t.Cleanup(h.Close)
	raw, err := os.ReadFile(h.ContextFile())
	must(t, err)
	var target api.ContextFile
	must(t, json.Unmarshal(raw, &target))
	client, err := api.NewClient(target)
	must(t, err)
	return h, client
}

// belief is whom a site believes, in memory.
type belief struct {
	trust []byte
	keys  []ed25519.PublicKey
}

func (b *belief) HubKeys() (now, former []ed25519.PublicKey) { return b.keys, nil }

func (b *belief) Follow(ctx context.Context, from tuf.Source) (err error) {
	newer, keys, err := follow(ctx, from, b.trust)
	if err == nil {
		b.trust, b.keys = newer, keys
	}
	return err
}

// beliefOf is what the site's file says.
func beliefOf(t *testing.T, site *fleetsync.SiteFile) *belief {
	t.Helper()
	keys, err := hubKeys(site.Trust)
	must(t, err)
	return &belief{site.Trust, keys}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// device is an empty device with an enrolment file, whose machine has the serial number.
func device(t *testing.T, file enrol.File, serial string) Options {
	t.Helper()
	root := t.TempDir()
	write := func(name, text string) {
		must(t, os.MkdirAll(filepath.Dir(filepath.Join(root, name)), 0o755))
		must(t, os.WriteFile(filepath.Join(root, name), []byte(text), 0o600))
	}
	write("proc/device-tree/serial-number", serial+"\x00")
	write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
	return Options{
		Home: Home{Dir: filepath.Join(t.TempDir(), "data")}, File: enrolFile(t, file), HostRoot: root, RetryMin: 10 * time.Millisecond, RetryMax: 50 * time.Millisecond,
	}
}

func enrolFile(t *testing.T, file enrol.File) string {
	t.Helper()
	raw, err := json.Marshal(file)
	must(t, err)
	path := filepath.Join(t.TempDir(), "enrol.json")
	must(t, os.WriteFile(path, raw, 0o600))
	return path
}

func grantOf(t *testing.T, client *api.Client, request api.TokenRequest) enrol.File {
	t.Helper()
	request.Seconds = 3600
	if request.Rule == "" {
		request.Rule = enrol.BySerial
	}
	if request.Uses == 0 {
		request.Uses = 1
	}
	grant, err := client.CreateToken(t.Context(), request)
	must(t, err)
	return grant.File
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	limit := time.After(20 * time.Second)
	for !condition() {
		select {
		case <-ticker.C:
		case <-limit:
			t.Fatalf("never: %s", what)
		}
	}
}

// linkOf connects as the site.
func linkOf(t *testing.T, site *fleetsync.SiteFile, refused func()) *link.Link {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(site.CA))
	l, err := link.Dial(link.Options{Site: site.Site, Servers: site.Servers, CA: roots, JWT: site.JWT, Seed: site.Seed, Refused: refused,
		RetryMin: 10 * time.Millisecond, RetryMax: 200 * time.Millisecond})
	must(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func await(t *testing.T, l *link.Link, kind fleetsync.NoticeKind) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case n := <-l.Notices():
			if n.Kind == kind {
				return
			}
		case <-limit:
			t.Fatalf("never: %s", kind)
		}
	}
}

func TestOneFileMakesSitesOfManyDevices(t *testing.T) {
	h, client := startHub(t, nil)
	file := grantOf(t, client, api.TokenRequest{Uses: 2, Labels: map[string]string{"group": "canary"}})
	core, logs := observer.New(zap.InfoLevel)
	one, two := device(t, file, "SHOP-1"), device(t, file, "SHOP-2")
	one.Log = zap.New(core)
	enrolled := make(chan *fleetsync.SiteFile, 2)
	for _, o := range []Options{one, two} {
		go func() {
			site, err := Enrol(t.Context(), o)
			if err != nil {
				t.Error(err)
			}
			enrolled <- site
		}()
	}
	// What the device says in its log is what the operator sees.
	eventually(t, "two devices wait", func() bool {
		waiting, err := client.Enrolments(t.Context())
		return err == nil && len(waiting) == 2
	})
	eventually(t, "the device says its words", func() bool { return logs.FilterMessage("waiting for approval").Len() == 1 })
	words := logs.FilterMessage("waiting for approval").All()[0].ContextMap()["words"].(string)
	waiting, err := client.Enrolments(t.Context())
	must(t, err)
	for _, e := range waiting {
		if (e.Site == "shop-1") != (e.Fingerprint == words) {
			t.Errorf("%s shows as %s, its log says %s", e.Site, e.Fingerprint, words)
		}
		_, err := client.DecideEnrolment(t.Context(), e.Fingerprint, api.Decision{Approve: true})
		must(t, err)
	}
	for range 2 {
		site := <-enrolled
		await(t, linkOf(t, site, nil), fleetsync.LinkUp)
		if !bytes.Equal(site.Trust, file.Trust) {
			t.Errorf("site %s believes others than the enrolment file says", site.Site)
		}
	}
	// A restart needs neither the hub nor the file.
	h.Close()
	must(t, os.Remove(one.File))
	site, err := Enrol(t.Context(), one)
	if err != nil || site.Site != "shop-1" || site.Seed == "" {
		t.Errorf("restart: %+v, %v", site, err)
	}
	// What is on the disk is the owner's alone, and the site file has no seed.
	for _, name := range []string{seedFile, siteFile} {
		info, err := os.Stat(filepath.Join(one.Dir, name))
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %s", name, info.Mode())
		}
	}
	raw, err := os.ReadFile(filepath.Join(one.Dir, siteFile))
	must(t, err)
	if bytes.Contains(raw, []byte(site.Seed)) {
		t.Error("the site file holds the seed")
	}
}

// A lost reply, at the device: the hub has made the site, the device never heard. It asks again and is the same site.
func TestT20_ALostReplyIsAskedForAgain(t *testing.T) {
	_, client := startHub(t, nil)
	file := grantOf(t, client, api.TokenRequest{PreApproved: true})
	var lost atomic.Int32
	front := impostor(t, file, func(answer []byte, w http.ResponseWriter) {
		if lost.Add(1) <= 2 {
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(answer)
	})
	site, err := Enrol(t.Context(), device(t, front, "shop-1"))
	if err != nil || site.Site != "shop-1" || lost.Load() < 3 {
		t.Fatalf("%+v, %v after %d tries", site, err, lost.Load())
	}
	tokens, err := client.Tokens(t.Context())
	if err != nil || len(tokens[0].Used) != 1 {
		t.Errorf("%+v, %v", tokens, err)
	}
}

// impostor stands between devices and the hub with a CA of its own, and gives the enrolment file that believes it.
func impostor(t *testing.T, file enrol.File, answer func(answer []byte, w http.ResponseWriter)) enrol.File {
	t.Helper()
	behind, err := newCaller(file.Hubs, file.CA, nil)
	must(t, err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "impostor"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		raw, err := behind.call(r.Context(), r.Method, r.URL.Path, body.Bytes())
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		answer(raw, w)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.Config.ErrorLog = zap.NewStdLog(zap.NewNop())
	server.StartTLS()
	t.Cleanup(server.Close)
	file.Hubs, file.CA = []string{server.URL}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return file
}

func TestT21_ARogueHubIsRefused(t *testing.T) {
	_, client := startHub(t, nil)
	rogue, rogueClient := startHub(t, nil)
	file := grantOf(t, client, api.TokenRequest{PreApproved: true})
	theirs := grantOf(t, rogueClient, api.TokenRequest{PreApproved: true})
	var heard atomic.Int32
	for name, file := range map[string]enrol.File{
		// The address leads to another hub: its certificate is not by the pinned CA, and it never sees the token.
		"another hub's address": func() enrol.File { f := file; f.Hubs = []string{rogue.URL()}; return f }(),
		// Whoever stole the hub's TLS key, too, has not its signing key.
		"another hub's signature": func() enrol.File { f := theirs; f.Trust = file.Trust; return f }(),
		"an answer from before": func() enrol.File {
			var mu sync.Mutex
			var first []byte
			return impostor(t, grantOf(t, client, api.TokenRequest{Uses: 1}), func(answer []byte, w http.ResponseWriter) {
				mu.Lock()
				defer mu.Unlock()
				if heard.Add(1); first == nil {
					first = answer
					panic(http.ErrAbortHandler) // it is kept and given to the next request
				}
				_, _ = w.Write(first)
			})
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			o := device(t, file, "shop-1")
			disbelieves(t, o, "certificate", "not signed by the hub", "another request")
			if _, err := os.Stat(filepath.Join(o.Dir, siteFile)); err == nil {
				t.Error("the device became a site")
			}
		})
	}
	if sites, err := client.Sites(t.Context(), ""); err != nil || len(sites) != 0 {
		t.Errorf("sites %+v, %v", sites, err)
	}
}

func TestTheKeyIsSealedAtRest(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(secret, []byte("sixteen bytes or more"), 0o600))
	home := Home{Dir: t.TempDir(), KeyFile: secret}
	made, err := home.key()
	must(t, err)
	raw, err := os.ReadFile(filepath.Join(home.Dir, seedFile))
	must(t, err)
	if bytes.Contains(raw, []byte(made.seed)) || !bytes.HasPrefix(raw, []byte(sealedBegin)) {
		t.Error("the seed is on the disk as it is")
	}
	if again, err := home.key(); err != nil || again.seed != made.seed {
		t.Errorf("again: %v", err)
	}
	other := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(other, []byte("another sixteen bytes"), 0o600))
	short := filepath.Join(t.TempDir(), "key")
	must(t, os.WriteFile(short, []byte("short"), 0o600))
	for name, file := range map[string]string{"no key": "", "another": other, "too short": short, "gone": secret + "x"} {
		if _, err := (Home{Dir: home.Dir, KeyFile: file}).key(); err == nil || strings.Contains(err.Error(), made.seed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range raw {
		flipped := bytes.Clone(raw)
		flipped[i] ^= 1
		must(t, os.WriteFile(filepath.Join(home.Dir, seedFile), flipped, 0o600))
		if k, err := home.key(); err == nil && k.seed != made.seed {
			t.Fatalf("byte %d flipped: another key is taken", i)
		} else if err == nil {
			t.Fatalf("byte %d flipped: not noticed", i)
		}
	}
}

// F18: a site comes back long after its credential expired, by proof of its key, and the server lets it in with the new one.
func TestF18_AnExpiredSiteGetsBackInByItsKey(t *testing.T) {
	_, client := startHub(t, func(c *hub.Config) { c.CredentialLife = time.Second })
	site, err := Enrol(t.Context(), device(t, grantOf(t, client, api.TokenRequest{PreApproved: true}), "shop-1"))
	must(t, err)
	first, err := enrol.LifeOf(site.JWT)
	must(t, err)
	eventually(t, "the credential has expired", func() bool { return time.Now().After(first.Expires.Add(1500 * time.Millisecond)) })

	home := Home{Dir: t.TempDir()}
	var l *link.Link
	var keeper *Keeper
	ready := make(chan struct{})
	keeper, err = NewKeeper(home, *site, beliefOf(t, site), func(jwt string) { <-ready; l.Renew(jwt) }, nil, nil)
	must(t, err)
	keeper.retryMin, keeper.restMin = 10*time.Millisecond, time.Millisecond
	l = linkOf(t, site, keeper.Refused)
	close(ready)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); keeper.Run(ctx) }()
	await(t, l, fleetsync.LinkUp)
	// It is renewed before it runs out, and cut off and let in again where the server was faster.
	fresh := *site
	eventually(t, "a renewed credential is on the disk", func() bool {
		must(t, home.Newest(&fresh))
		life, err := enrol.LifeOf(fresh.JWT)
		return err == nil && life.Issued.After(first.Expires)
	})
	cancel()
	<-ended
	if err := enrol.CheckCredential(fresh.JWT, site.Site, keeper.key.public); err != nil {
		t.Errorf("T22: %v", err)
	}
	// The credential of another device that was left in the folder is not taken.
	_, other, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	seed, err := nkeys.EncodeSeed(nkeys.PrefixByteUser, other.Seed())
	must(t, err)
	stranger := *site
	stranger.Seed = string(seed)
	if err := home.Newest(&stranger); err != nil || stranger.JWT != site.JWT {
		t.Errorf("a stranger's credential is taken: %v", err)
	}
}

func TestFactsAreReadBelowTheRoot(t *testing.T) {
	o := device(t, enrol.File{}, "ABC")
	facts := readFacts(o.HostRoot)
	if facts.Serial != "ABC" || facts.MachineID != "0123456789abcdef0123456789abcdef" || facts.Hostname == "" {
		t.Errorf("%+v", facts)
	}
	if empty := readFacts(t.TempDir()); empty.Serial != "" || empty.MachineID != "" {
		t.Errorf("%+v", empty)
	}
}

// disbelieves lets a device enrol until it says, with one of the words, why it does not believe an answer.
func disbelieves(t *testing.T, o Options, words ...string) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	o.Log = zap.New(core)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Enrol(ctx, o)
		ended <- err
	}()
	eventually(t, "the device says why it does not believe", func() bool {
		for _, entry := range logs.FilterMessage("enrolment: no answer that counts: will ask again").All() {
			text, _ := entry.ContextMap()["error"].(string)
			if slices.ContainsFunc(words, func(word string) bool { return strings.Contains(text, word) }) {
				return true
			}
		}
		return false
	})
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
}
