package hub

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/internal/bus/membus"
	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// applicant is a device's side of the open door, driven by the test.
type applicant struct {
	t       *testing.T
	url     string
	http    *http.Client
	private ed25519.PrivateKey
	public  ed25519.PublicKey
	hub     ed25519.PublicKey
	token   string
	facts   enrol.Facts
}

func newApplicant(t *testing.T, h *Hub, token string, serial string) *applicant {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &applicant{t: t, url: h.URL(), http: rawClient(t, contextOf(t, h)), private: private, public: public, hub: h.signing().public, token: token, facts: enrol.Facts{Serial: serial}}
}

func (a *applicant) request() (enrol.Request, []byte) {
	nonce := make([]byte, enrol.NonceSize)
	_, _ = rand.Read(nonce)
	request := enrol.Request{Token: a.token, Nonce: hex.EncodeToString(nonce), Key: a.public, Facts: a.facts}
	sealed, err := fleetsync.Seal(enrol.TypeRequest, request, a.private)
	if err != nil {
		a.t.Error(err)
	}
	return request, sealed
}

// post gives the answer, or the reason of the refusal.
func (a *applicant) post(path string, sealed []byte) ([]byte, enrol.Reason) {
	response, err := a.http.Post(a.url+path, "application/json", bytes.NewReader(sealed))
	if err != nil {
		a.t.Error(err)
		return nil, "NoAnswer"
	}
	defer response.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(response.Body); err != nil {
		a.t.Error(err)
	}
	if response.StatusCode != http.StatusOK {
		var problem api.Problem
		if err := json.Unmarshal(body.Bytes(), &problem); err != nil || problem.Status != response.StatusCode {
			a.t.Errorf("%d %s", response.StatusCode, body.String())
		}
		return nil, enrol.Reason(problem.Reason)
	}
	return body.Bytes(), ""
}

func (a *applicant) ask() (enrol.Reply, enrol.Reason) {
	request, sealed := a.request()
	raw, reason := a.post("/v1/enrol", sealed)
	if reason != "" {
		return enrol.Reply{}, reason
	}
	reply, err := enrol.OpenReply(raw, []ed25519.PublicKey{a.hub}, request)
	if err != nil {
		a.t.Errorf("reply: %v", err)
	}
	return reply, ""
}

func (a *applicant) mustAsk(want enrol.Status) enrol.Reply {
	a.t.Helper()
	reply, reason := a.ask()
	if reason != "" || reply.Status != want {
		a.t.Fatalf("%+v %s, want %s", reply, reason, want)
	}
	return reply
}

func tokenOf(t *testing.T, client *api.Client, request api.TokenRequest) api.TokenGrant {
	t.Helper()
	if request.Uses == 0 {
		request.Uses = 1
	}
	if request.Rule == "" {
		request.Rule = enrol.BySerial
	}
	if request.Seconds == 0 {
		request.Seconds = 3600
	}
	grant, err := client.CreateToken(context.Background(), request)
	if err != nil {
		t.Fatal(err)
	}
	return grant
}

func audited(t *testing.T, client *api.Client, what, outcome string) int {
	t.Helper()
	records, err := client.Audit(context.Background(), 0)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, r := range records {
		if r.What == what && r.Outcome == outcome {
			n++
		}
	}
	return n
}

func TestT20_FiftyDevicesWithOneUseMakeOneSite(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client := clientOf(t, h)
	grant := tokenOf(t, client, api.TokenRequest{PreApproved: true, Labels: map[string]string{"group": "canary"}})
	const many = 50
	var wait sync.WaitGroup
	var mu sync.Mutex
	outcomes := map[string]int{}
	var winner *applicant
	for i := range many {
		a := newApplicant(t, h, grant.File.Token, fmt.Sprintf("serial-%d", i))
		wait.Go(func() {
			reply, reason := a.ask()
			mu.Lock()
			defer mu.Unlock()
			outcomes[string(reply.Status)+string(reason)]++
			if reply.Status == enrol.Approved {
				winner = a
			}
		})
	}
	wait.Wait()
	if outcomes["approved"] != 1 || outcomes["TokenSpent"] != many-1 {
		t.Fatalf("outcomes %v, want one approved and the others refused", outcomes)
	}
	sites, err := client.Sites(context.Background(), "group=canary")
	if err != nil || len(sites) != 1 || string(sites[0].ID) != winner.facts.Serial {
		t.Errorf("sites %+v, %v", sites, err)
	}
	// The winner's answer was lost: it is given again, for the same site, and long after the token is spent and revoked.
	if _, err := client.RevokeToken(context.Background(), grant.Token.ID); err != nil {
		t.Fatal(err)
	}
	winner.facts.Serial = "another"
	if reply := winner.mustAsk(enrol.Approved); reply.Site != sites[0].ID {
		t.Errorf("again: site %s, want %s", reply.Site, sites[0].ID)
	}
	if n := audited(t, client, "enrol", "TokenSpent"); n != many-1 {
		t.Errorf("%d refusals in the audit log, want %d", n, many-1)
	}
}

func TestT20_PendingUntilSomebodyComparesTheWords(t *testing.T) {
	h := startHub(t, configOf(t, t.TempDir()))
	client, ctx := clientOf(t, h), context.Background()
	grant := tokenOf(t, client, api.TokenRequest{Uses: 3, Labels: map[string]string{"group": "canary"}})
	real, thief, third := newApplicant(t, h, grant.File.Token, "SHOP-1"), newApplicant(t, h, grant.File.Token, "shop-1"), newApplicant(t, h, grant.File.Token, "shop-2")
	for _, a := range []*applicant{real, thief, third} {
		a.mustAsk(enrol.Pending)
		a.mustAsk(enrol.Pending)
	}
	if sites, err := client.Sites(ctx, ""); err != nil || len(sites) != 0 {
		t.Errorf("sites before anybody approved: %+v, %v", sites, err)
	}
	waiting, err := client.Enrolments(ctx)
	if err != nil || len(waiting) != 3 || waiting[0].Facts.Serial == "" {
		t.Fatalf("waiting %+v, %v", waiting, err)
	}
	if _, err := client.DecideEnrolment(ctx, "lusab-babad", api.Decision{Approve: true}); refusalOf(t, err).Status != http.StatusNotFound {
		t.Errorf("half the words: %v", err)
	}
	if e, err := client.DecideEnrolment(ctx, enrol.Fingerprint(real.public), api.Decision{Approve: true}); err != nil || e.Status != enrol.Approved || e.Site != "shop-1" {
		t.Fatalf("approve: %+v, %v", e, err)
	}
	if _, err := client.DecideEnrolment(ctx, enrol.Fingerprint(thief.public), api.Decision{Approve: true}); refusalOf(t, err).Reason != string(enrol.NameTaken) {
		t.Errorf("a second device of the same name: %v", err)
	}
	if _, err := client.DecideEnrolment(ctx, enrol.Fingerprint(third.public), api.Decision{Why: "not ours"}); err != nil {
		t.Fatal(err)
	}
	if reply := third.mustAsk(enrol.Rejected); reply.Why != "not ours" || reply.Grant != nil {
		t.Errorf("rejected: %+v", reply)
	}
	if reply := thief.mustAsk(enrol.Pending); reply.Grant != nil {
		t.Errorf("the thief: %+v", reply)
	}
	reply := real.mustAsk(enrol.Approved)
	if reply.Site != "shop-1" || reply.Grant.JWT == "" || !slices.Equal(reply.Grant.Servers, h.Servers()) {
		t.Errorf("approved: %+v", reply)
	}
	site, err := client.Site(ctx, "shop-1")
	if err != nil || site.Labels["group"] != "canary" {
		t.Errorf("site %+v, %v", site, err)
	}
	if _, err := client.DecideEnrolment(ctx, enrol.Fingerprint(real.public), api.Decision{}); refusalOf(t, err).Reason != string(enrol.Decided) {
		t.Errorf("rejected after it was approved: %v", err)
	}
}

func TestT20_BadRequestsAreRefusedEachWithItsReason(t *testing.T) {
	now := time.Now()
	cfg := configOf(t, t.TempDir())
	var mu sync.Mutex
	cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	h := startHub(t, cfg)
	client := clientOf(t, h)
	grant := tokenOf(t, client, api.TokenRequest{PreApproved: true, Uses: 2})
	flipped := []byte(grant.File.Token)
	flipped[len(flipped)-1] ^= 1
	other := newApplicant(t, h, grant.File.Token, "s2")
	seal := func(edit func(*enrol.Request), by *applicant) []byte {
		request, _ := other.request()
		edit(&request)
		raw, err := fleetsync.Seal(enrol.TypeRequest, request, by.private)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	stranger := newApplicant(t, h, grant.File.Token, "s3")
	for name, c := range map[string]struct {
		sealed []byte
		want   enrol.Reason
	}{
		"a flipped bit":          {seal(func(r *enrol.Request) { r.Token = string(flipped) }, other), enrol.TokenUnknown},
		"no such token":          {seal(func(r *enrol.Request) { r.Token = enrol.Secret("aaaaaaaaaa", "x") }, other), enrol.TokenUnknown},
		"no token at all":        {seal(func(r *enrol.Request) { r.Token = "hf.token.>" }, other), enrol.TokenUnknown},
		"a proof by another key": {seal(func(*enrol.Request) {}, stranger), enrol.Forged},
		"a name of no site":      {seal(func(r *enrol.Request) { r.Facts.Serial = "*" }, other), enrol.NoName},
		"no nonce":               {seal(func(r *enrol.Request) { r.Nonce = "" }, other), enrol.Malformed},
		"a huge fact":            {seal(func(r *enrol.Request) { r.Facts.Hostname = strings.Repeat("x", 300) }, other), enrol.Malformed},
		"no key":                 {seal(func(r *enrol.Request) { r.Key = nil }, other), enrol.Forged},
		"the hub's own key":      {seal(func(r *enrol.Request) { r.Key = h.signing().public }, &applicant{private: h.signing().private}), enrol.KeyInUse},
		"garbage":                {[]byte("hello"), enrol.Malformed},
		"too large":              {bytes.Repeat([]byte(" "), enrol.MaxRequest+1), "TooLarge"},
	} {
		if _, reason := other.post("/v1/enrol", c.sealed); reason != c.want {
			t.Errorf("%s: refused with %q, want %s", name, reason, c.want)
		}
		if audited(t, client, "enrol", string(c.want)) == 0 {
			t.Errorf("%s: not in the audit log", name)
		}
	}
	mu.Lock()
	now = now.Add(2 * time.Hour)
	mu.Unlock()
	if _, reason := other.ask(); reason != enrol.TokenExpired {
		t.Errorf("expired: %s", reason)
	}
	if tokens, err := client.Tokens(context.Background()); err != nil || len(tokens) != 1 || len(tokens[0].Used) != 0 {
		t.Errorf("refusals used the token: %+v, %v", tokens, err)
	}
	if sites, err := client.Sites(context.Background(), ""); err != nil || len(sites) != 0 {
		t.Errorf("sites %+v, %v", sites, err)
	}
	// T16: neither log, list nor store knows the secret.
	for _, m := range stored(t, h, "TOKENS") {
		raw, err := h.store.Get(context.Background(), m)
		if err != nil || bytes.Contains(raw.Data, []byte(grant.File.Token[len("hft_")+11:])) {
			t.Errorf("%s has the token's secret, %v", m, err)
		}
	}
}

func TestT20_ManyKnocksMeetALimit(t *testing.T) {
	d := newDoor()
	now := noon
	admitted := 0
	for range 1000 {
		if d.admits(now, "192.0.2.1") {
			admitted++
		}
	}
	if admitted != knocksFromBurst {
		t.Errorf("%d of 1000 at once are admitted, want %d", admitted, knocksFromBurst)
	}
	if !d.admits(now, "192.0.2.2") {
		t.Error("another address is shut out with it")
	}
	if d.admits(now.Add(100*time.Millisecond), "192.0.2.1") || !d.admits(now.Add(time.Second), "192.0.2.1") {
		t.Error("the limit does not fill again as it should")
	}
	for i := range 10 * maxKeys {
		d.admits(now, fmt.Sprint(i))
	}
	if len(d.from.key) > maxKeys {
		t.Errorf("%d addresses are remembered", len(d.from.key))
	}
	written := 0
	for range 1000 {
		if write, _ := d.notes(now); write {
			written++
		}
	}
	if _, missed := d.notes(now.Add(time.Second)); written != refusalsAtOnce || missed != 1000-refusalsAtOnce {
		t.Errorf("%d refusals written, %d counted", written, missed)
	}
}

// failing is a bus whose nth write is lost, or is stored and reported as lost.
type failing struct {
	*membus.Bus
	mu     sync.Mutex
	left   int
	stored bool
}

var errFailed = errors.New("the disk is gone")

func (f *failing) PutIf(ctx context.Context, subject string, data []byte, last uint64) (uint64, error) {
	f.mu.Lock()
	f.left--
	fails := f.left == 0
	f.mu.Unlock()
	if fails && !f.stored {
		return 0, errFailed
	}
	sequence, err := f.Bus.PutIf(ctx, subject, data, last)
	if fails {
		return 0, errFailed
	}
	return sequence, err
}

func TestT20_AFailureBetweenTwoWritesIsCompletedByTheSameRequest(t *testing.T) {
	for _, storedAnyway := range []bool{false, true} {
		for write := 1; write <= 6; write++ {
			cfg := configOf(t, t.TempDir())
			store := &failing{Bus: membus.New(nil), stored: storedAnyway}
			cfg.Bus = store
			h := startHub(t, cfg)
			grant, err := h.CreateToken(context.Background(), api.TokenRequest{Rule: enrol.BySerial, Uses: 1, Seconds: 60, PreApproved: true}, "test")
			if err != nil {
				t.Fatal(err)
			}
			a := newApplicant(t, h, grant.File.Token, "shop-1")
			store.mu.Lock()
			store.left = write
			store.mu.Unlock()
			_, sealed := a.request()
			_, _ = h.Enrol(context.Background(), sealed, "here")
			if reply := a.mustAsk(enrol.Approved); reply.Site != "shop-1" {
				t.Errorf("write %d, stored %t: %+v", write, storedAnyway, reply)
			}
			if tokens, err := h.Tokens(context.Background()); err != nil || len(tokens[0].Used) != 1 {
				t.Errorf("write %d, stored %t: %+v, %v", write, storedAnyway, tokens, err)
			}
			other := newApplicant(t, h, grant.File.Token, "shop-2")
			if _, reason := other.ask(); reason != enrol.TokenSpent {
				t.Errorf("write %d, stored %t: a second device: %s", write, storedAnyway, reason)
			}
			if verdict, err := h.VerifyAudit(context.Background()); err != nil || verdict.Broken != "" {
				t.Errorf("write %d, stored %t: audit log %+v, %v", write, storedAnyway, verdict, err)
			}
		}
	}
}

func (a *applicant) renewal(site bundle.SiteID) (enrol.Renewal, []byte) {
	a.t.Helper()
	response, err := a.http.Get(a.url + "/v1/renewal")
	if err != nil {
		a.t.Fatal(err)
	}
	defer response.Body.Close()
	var challenge enrol.Challenge
	if err := json.NewDecoder(response.Body).Decode(&challenge); err != nil {
		a.t.Fatal(err)
	}
	renewal := enrol.Renewal{Nonce: challenge.Nonce, Site: site, Key: a.public}
	sealed, err := fleetsync.Seal(enrol.TypeRenewal, renewal, a.private)
	if err != nil {
		a.t.Fatal(err)
	}
	return renewal, sealed
}

func TestT22_TheHubRenewsExactlyWhoProves(t *testing.T) {
	now := time.Now()
	cfg := configOf(t, t.TempDir())
	var mu sync.Mutex
	cfg.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	h := startHub(t, cfg)
	client := clientOf(t, h)
	grant := tokenOf(t, client, api.TokenRequest{PreApproved: true, Uses: 2})
	one, two := newApplicant(t, h, grant.File.Token, "shop-1"), newApplicant(t, h, grant.File.Token, "shop-10")
	one.mustAsk(enrol.Approved)
	two.mustAsk(enrol.Approved)

	renewal, sealed := one.renewal("shop-1")
	raw, reason := one.post("/v1/renewal", sealed)
	if reason != "" {
		t.Fatalf("renewal refused: %s", reason)
	}
	renewed, err := enrol.OpenRenewed(raw, h.hubKeys(), renewal)
	if err != nil {
		t.Fatal(err)
	}
	life, err := enrol.LifeOf(renewed.JWT)
	if left := life.Expires.Sub(now); err != nil || left < 29*24*time.Hour || left > 31*24*time.Hour {
		t.Errorf("the credential lives %s, %v", left, err)
	}
	for name, c := range map[string]struct {
		by   *applicant
		site bundle.SiteID
	}{"another's name": {two, "shop-1"}, "a prefix": {one, "shop-10"}, "nobody's": {one, "shop-2"}} {
		_, sealed := c.by.renewal(c.site)
		if _, reason := one.post("/v1/renewal", sealed); reason != enrol.WrongIdentity {
			t.Errorf("%s: %s", name, reason)
		}
	}
	invented := enrol.Renewal{Nonce: fmt.Sprint(now.UnixMilli()) + "." + strings.Repeat("0", 64), Site: "shop-1", Key: one.public}
	if sealed, err = fleetsync.Seal(enrol.TypeRenewal, invented, one.private); err != nil {
		t.Fatal(err)
	}
	if _, reason := one.post("/v1/renewal", sealed); reason != enrol.ProofStale {
		t.Errorf("a nonce of its own: %s", reason)
	}
	_, late := one.renewal("shop-1")
	mu.Lock()
	now = now.Add(challengeLife + time.Second)
	mu.Unlock()
	if _, reason := one.post("/v1/renewal", late); reason != enrol.ProofStale {
		t.Errorf("a proof kept for later: %s", reason)
	}
	mu.Lock()
	now = now.Add(500 * 24 * time.Hour)
	mu.Unlock()
	if _, sealed := one.renewal("shop-1"); true {
		if _, reason := one.post("/v1/renewal", sealed); reason != "" {
			t.Errorf("F18: more than a year later: %s", reason)
		}
	}
	if err := h.RevokeSite(context.Background(), "shop-1", "test", "stolen"); err != nil {
		t.Fatal(err)
	}
	_, sealed = one.renewal("shop-1")
	if _, reason := one.post("/v1/renewal", sealed); reason != enrol.SiteRevoked {
		t.Errorf("revoked: %s", reason)
	}
	if _, reason := one.ask(); reason != enrol.SiteRevoked {
		t.Errorf("T23: a revoked site enrols again: %s", reason)
	}
}
