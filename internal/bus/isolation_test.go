package bus

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/holdfast-fleet/holdfast/internal/bus/bustest"
	"github.com/holdfast-fleet/holdfast/internal/bus/line"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

const (
	mallory = bundle.SiteID("shop-1")
	victim  = bundle.SiteID("shop-2")
	canary  = "canary-of-shop-2"
)

// raw is a site's bare NATS connection: everything its credentials allow, and nothing of Link's good manners.
type raw struct {
	*nats.Conn
	inbox *nats.Subscription
	n     int
	o     link.Options
	user  string // public key
}

func connectRaw(t *testing.T, b *bench, o link.Options) *raw {
	t.Helper()
	nc, err := dialRaw(b, o)
	must(t, err)
	t.Cleanup(nc.Close)
	claims, err := jwt.DecodeUserClaims(o.JWT)
	must(t, err)
	return &raw{Conn: nc, o: o, user: claims.Subject, inbox: mustGet[*nats.Subscription](t)(nc.SubscribeSync(line.InboxPrefix(o.Site) + ".>"))}
}

func dialRaw(b *bench, o link.Options) (*nats.Conn, error) {
	return nats.Connect(b.url, nats.UserJWTAndSeed(o.JWT, o.Seed), nats.Secure(&tls.Config{RootCAs: b.pool}),
		nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
}

// ask publishes a request. Either the server refuses the subject, or whatever comes back within a while is the answer.
func (r *raw) ask(t *testing.T, subject string, payload []byte, wait time.Duration) (answer *nats.Msg, refused bool) {
	t.Helper()
	r.n++
	reply := fmt.Sprintf("%s.%d", strings.TrimSuffix(r.inbox.Subject, ".>"), r.n)
	must(t, r.PublishRequest(subject, reply, payload))
	if r.refused(t, subject) {
		return nil, true
	}
	for end := time.Now().Add(wait); time.Now().Before(end); {
		m, err := r.inbox.NextMsg(time.Until(end))
		if errors.Is(err, nats.ErrTimeout) {
			return nil, false
		}
		must(t, err)
		if m.Subject == reply {
			return m, false
		}
	}
	return nil, false
}

// refused tells whether the server refused the subject just used: its error comes before the answer to a flush.
func (r *raw) refused(t *testing.T, subject string) bool {
	t.Helper()
	must(t, r.FlushTimeout(5*time.Second))
	err := r.LastError()
	return errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"`+subject+`"`)
}

// census is what is in all streams.
func census(t *testing.T, h *Hub) string {
	t.Helper()
	var all strings.Builder
	for _, r := range stream.Rules {
		must(t, h.Each(t.Context(), r.Name, "", 0, func(m stream.Message) error {
			fmt.Fprintf(&all, "%s %d %q\n", m.Subject, m.Sequence, m.Data)
			return nil
		}))
	}
	return all.String()
}

// attacked gives a bus with data of both sites and a raw connection of one.
func attacked(t *testing.T, b *bench) (*Hub, *raw) {
	t.Helper()
	h := b.hub(t)
	for _, subject := range []string{fleetsync.DesiredSubject(victim), fleetsync.AckSubject(victim), fleetsync.StateSubject(victim), fleetsync.EventSubject(victim), "hf.site." + string(victim), "hf.catalog.secret.1.0.0"} {
		mustGet[uint64](t)(h.Put(t.Context(), subject, []byte(canary)))
	}
	// Without the headers of Put: the server repeats them in its answers, and the name of the stream among them would hold up an
	// answer that goes astray.
	mustGet[*jetstream.PubAck](t)(h.js.Publish(t.Context(), fleetsync.DesiredSubject(mallory), []byte("own")))
	mustGet[uint64](t)(h.Put(t.Context(), fleetsync.BundleSubject(bundle.DigestOf(nil)), []byte("offer")))
	return h, connectRaw(t, b, b.linkOptions(t, mallory, b.url))
}

// mustNotLeak fails if an answer holds what is another site's.
func mustNotLeak(t *testing.T, what string, m *nats.Msg) {
	t.Helper()
	if m != nil && (bytes.Contains(m.Data, []byte(canary)) || strings.Contains(fmt.Sprint(m.Header), string(victim))) {
		t.Errorf("%s: leaked %q %v", what, m.Data, m.Header)
	}
}

func TestT17_SiteReachesOnlyItsOwn(t *testing.T) { onEachBus(t, siteReachesOnlyItsOwn) }

func siteReachesOnlyItsOwn(t *testing.T, b *bench) {
	h, r := attacked(t, b)
	allowed := map[string]bool{}
	for name, subjects := range stream.ReadsOf(mallory) {
		for _, s := range subjects {
			allowed[line.DirectGet(name, strings.ReplaceAll(s, "*", strings.Repeat("ab", 32)))] = true
		}
	}
	for _, s := range append(stream.WritesOf(mallory), stream.HelloOf(mallory)) {
		allowed[s] = true
	}
	before := census(t, h)
	tried := map[string]bool{}
	for _, subject := range everySubject() {
		if tried[subject] || allowed[subject] {
			continue
		}
		tried[subject] = true
		answer, refused := r.ask(t, subject, []byte(`{}`), 100*time.Millisecond)
		mustNotLeak(t, subject, answer)
		if !refused {
			t.Errorf("publish to %s was let through", subject)
		}
	}
	t.Logf("%d subjects refused", len(tried))
	if after := census(t, h); after != before {
		t.Errorf("the streams changed:\n%s\nwere:\n%s", after, before)
	}
	for subject := range allowed {
		if subject == stream.HelloOf(mallory) {
			continue
		}
		if answer, refused := r.ask(t, subject, nil, 5*time.Second); refused || answer == nil {
			t.Errorf("its own %s: refused %v, answer %v", subject, refused, answer)
		}
	}
}

// everySubject is what a hostile site might publish to: all our subjects for all kinds of names, bare and as reads, and JetStream's API.
func everySubject() (subjects []string) {
	names := []string{string(mallory), string(victim), "SHOP-1", "shop-1x", "shop", "shop-1.x", "x.shop-1", "shop-1.shop-2"}
	for _, rule := range stream.Rules {
		for _, name := range names {
			for _, pattern := range rule.Subjects {
				s := strings.NewReplacer("*", name, ">", name).Replace(pattern)
				subjects = append(subjects, s)
				if rule.Name != stream.Bundles && rule.Name != stream.Blobs && rule.Name != stream.Trust { // those are for every site to read
					subjects = append(subjects, line.DirectGet(rule.Name, s))
				}
			}
			subjects = append(subjects, "$JS.API.CONSUMER.INFO."+rule.Name+"."+name, "$JS.API.CONSUMER.MSG.NEXT."+rule.Name+"."+name,
				"$JS.API.CONSUMER.CREATE."+rule.Name+"."+name, "$JS.API.CONSUMER.CREATE."+rule.Name+".x.hf.event."+name,
				"$JS.API.CONSUMER.DURABLE.CREATE."+rule.Name+"."+name, "$JS.ACK."+rule.Name+"."+name+".1.2.1.1.0")
		}
		for _, verb := range []string{"DIRECT.GET", "STREAM.INFO", "STREAM.MSG.GET", "STREAM.MSG.DELETE", "STREAM.PURGE", "STREAM.DELETE", "STREAM.UPDATE", "STREAM.CREATE", "CONSUMER.NAMES", "CONSUMER.LIST", "CONSUMER.CREATE", "STREAM.SNAPSHOT", "STREAM.LEADER.STEPDOWN"} {
			subjects = append(subjects, "$JS.API."+verb+"."+rule.Name)
		}
	}
	for _, name := range names {
		subjects = append(subjects, "hf.hello."+name, "hf.poke."+name, "_INBOX_"+name+".x", "hf.trust."+name)
	}
	return append(subjects, "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$SYS.REQ.USER.INFO", "$SYS.REQ.SERVER.PING",
		"$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.CLAIMS.UPDATE", "_INBOX.x", "_R_.x", "hf", "x")
}

func TestT17_SubscribesOnlyToItsOwn(t *testing.T) { onEachBus(t, subscribesOnlyToItsOwn) }

func subscribesOnlyToItsOwn(t *testing.T, b *bench) {
	h, r := attacked(t, b)
	heard := make(chan *nats.Msg, 100)
	for _, s := range []string{">", "*", "*.>", "hf.>", "hf.*.*", "hf.event.*", "hf.poke.*", "hf.poke.>", fleetsync.PokeSubject(victim), "hf.hello.*", "_INBOX.>", "_INBOX_*.>",
		line.InboxPrefix(victim) + ".>", "$JS.>", "$JS.API.>", "$SYS.>", "_R_.>", "$JS.ACK.>", fleetsync.StateSubject(mallory)} {
		sub, err := r.ChanSubscribe(s, heard)
		must(t, err)
		if !r.refused(t, s) {
			t.Errorf("subscription to %s was let through", s)
		}
		_ = sub.Unsubscribe()
	}
	_, err := r.ChanQueueSubscribe(fleetsync.PokeSubject(victim), "q", heard)
	must(t, err)
	other := b.link(t, victim, b.url)
	bustest.Await(t, other, fleetsync.LinkUp)
	must(t, h.Poke(victim))
	bustest.Await(t, other, fleetsync.LinkPoke)
	if got, err := other.Get(t.Context(), fleetsync.DesiredSubject(victim)); err != nil || string(got) != canary {
		t.Errorf("the victim's own read: %q, %v", got, err)
	}
	if len(heard) > 0 {
		t.Errorf("heard %v", <-heard)
	}
}

func TestT17_PayloadReadsNoOtherSubject(t *testing.T) { onEachBus(t, payloadReadsNoOtherSubject) }

func payloadReadsNoOtherSubject(t *testing.T, b *bench) {
	_, r := attacked(t, b)
	own := line.DirectGet(stream.Desired, fleetsync.DesiredSubject(mallory))
	for _, payload := range []any{
		map[string]any{"last_by_subj": fleetsync.DesiredSubject(victim)},
		map[string]any{"next_by_subj": fleetsync.DesiredSubject(victim)},
		map[string]any{"next_by_subj": ">", "seq": 1},
		map[string]any{"multi_last": []string{">"}},
		map[string]any{"multi_last": []string{fleetsync.DesiredSubject(victim)}, "batch": 10},
		map[string]any{"seq": 1},
		map[string]any{"seq": 1, "batch": 10},
		map[string]any{"batch": 10},
		map[string]any{"start_time": time.Unix(0, 0), "batch": 10},
		map[string]any{"up_to_seq": 100},
	} {
		body, err := json.Marshal(payload)
		must(t, err)
		answer, refused := r.ask(t, own, body, 5*time.Second)
		if refused || answer == nil || !strings.HasPrefix(answer.Header.Get("Status"), "4") {
			t.Errorf("%s: refused %v, answer %v", body, refused, answer)
		}
		mustNotLeak(t, string(body), answer)
	}
	// A wildcard in the place of the subject is a name like any other, and the permission is literal.
	for _, s := range []string{"hf.desired.*", "hf.desired.>", "hf.*." + string(victim)} {
		answer, _ := r.ask(t, line.DirectGet(stream.Desired, s), nil, 100*time.Millisecond)
		mustNotLeak(t, s, answer)
	}
	// Where the permission has a wildcard, so may the request: it reads the newest of what every site may read anyway.
	answer, _ := r.ask(t, line.DirectGet(stream.Bundles, "hf.bundle.*"), nil, 5*time.Second)
	if answer == nil || string(answer.Data) != "offer" {
		t.Errorf("newest bundle: %v", answer)
	}
	mustNotLeak(t, "hf.bundle.*", answer)
}

// TestT17_OneAccountWouldNotDo is the control of TestT17_ReplySubjectWritesNowhere: with the very same permissions in the account that
// owns the streams, the server writes where the reply subject says.
func TestT17_OneAccountWouldNotDo(t *testing.T) { onEachBus(t, oneAccountWouldNotDo) }

func oneAccountWouldNotDo(t *testing.T, b *bench) {
	h, _ := attacked(t, b)
	o := b.linkOptions(t, mallory, b.url)
	claims, err := jwt.DecodeUserClaims(o.JWT)
	must(t, err)
	account := mustGet[pair](t)(open("hub", b.keys.Hub))
	o.JWT = mustGet[string](t)(claims.Encode(account))
	r := connectRaw(t, b, o)
	before := ofVictim(census(t, h))
	must(t, r.PublishRequest(line.DirectGet(stream.Desired, fleetsync.DesiredSubject(mallory)), fleetsync.EventSubject(victim), nil))
	eventually(t, "the attack works where there is one account", func() bool { return ofVictim(census(t, h)) != before })
}

func TestT17_ReplySubjectWritesNowhere(t *testing.T) { onEachBus(t, replySubjectWritesNowhere) }

func replySubjectWritesNowhere(t *testing.T, b *bench) {
	h, r := attacked(t, b)
	other := connectRaw(t, b, b.linkOptions(t, victim, b.url))
	must(t, other.Flush())
	before := census(t, h)
	desired := line.DirectGet(stream.Desired, fleetsync.DesiredSubject(mallory))
	for _, reply := range []string{fleetsync.EventSubject(victim), fleetsync.StateSubject(victim), fleetsync.DesiredSubject(victim), "hf.site.shop-9", "$JS.API.STREAM.PURGE.EVENTS", "$JS.API.STREAM.DELETE.EVENTS"} {
		must(t, r.PublishRequest(desired, reply, nil))
		must(t, r.PublishRequest(stream.HelloOf(mallory), reply, []byte("x")))
		must(t, r.PublishRequest(desired, reply, []byte("nonsense")))
		m := nats.NewMsg(desired)
		m.Reply = r.nextInbox()
		m.Header.Set("Nats-Trace-Dest", reply)
		must(t, r.PublishMsg(m))
	}
	must(t, r.Flush())
	// Whatever the server does with these it has done before it answers what comes after them on the same connection.
	if answer, _ := r.ask(t, desired, nil, 5*time.Second); answer == nil || string(answer.Data) != "own" {
		t.Fatalf("own read: %v", answer)
	}
	steady(t, "the streams", func() string { return census(t, h) }, before)

	// Reports of its own, with answers sent astray, add to its own subjects only.
	for _, header := range []string{"Nats-Trace-Dest", "Nats-Rollup", "Nats-Expected-Last-Subject-Sequence-Subject", "Nats-TTL", "Nats-Schedule-Target", "Nats-Batch-Id"} {
		m := nats.NewMsg(fleetsync.StateSubject(mallory))
		m.Reply = fleetsync.StateSubject(victim)
		value := map[string]string{"Nats-Rollup": "all", "Nats-TTL": "1s", "Nats-Batch-Id": "b"}[header]
		if value == "" {
			value = fleetsync.StateSubject(victim)
		}
		m.Header.Set(header, value)
		must(t, r.PublishMsg(m))
	}
	must(t, r.Flush())
	if answer, _ := r.ask(t, desired, nil, 5*time.Second); answer == nil {
		t.Fatal("no answer")
	}
	steady(t, "the victim's", func() string { return ofVictim(census(t, h)) }, ofVictim(before))
}

func (r *raw) nextInbox() string {
	r.n++
	return fmt.Sprintf("%s.%d", strings.TrimSuffix(r.inbox.Subject, ".>"), r.n)
}

func ofVictim(census string) string {
	var lines []string
	for line := range strings.Lines(census) {
		if strings.Contains(line, string(victim)) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

// steady fails if something changes within a while.
func steady(t *testing.T, what string, now func() string, want string) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 20 {
		<-tick.C
		if got := now(); got != want {
			t.Fatalf("%s changed:\n%s\nwas:\n%s", what, got, want)
		}
	}
}

func TestT17_HostileNamesGetNoPermissions(t *testing.T) {
	keys := mustGet[Keys](t)(NewKeys())
	_, public, err := NewSiteKey()
	must(t, err)
	for _, name := range []string{"", "*", ">", "a", "a.b", "a.>", "shop-1.*", "SHOP", "shop 1", "shop\n1", "-shop", "shop-", "shöp", strings.Repeat("a", 64), "{{name()}}", "$JS"} {
		if token, err := keys.SiteUser(bundle.SiteID(name), public); err == nil {
			t.Errorf("site %q got %s", name, token)
		}
	}
	account := mustGet[nkeys.KeyPair](t)(nkeys.CreateAccount())
	for _, key := range []string{"", "UABC", mustGet[string](t)(account.PublicKey())} {
		if _, err := keys.SiteUser("shop-1", key); err == nil {
			t.Errorf("key %q got a token", key)
		}
	}
	token, err := keys.SiteUser("shop-1", public)
	must(t, err)
	claims, err := jwt.DecodeUserClaims(token)
	must(t, err)
	if claims.Subject != public || len(claims.Pub.Allow) == 0 || len(claims.Sub.Allow) == 0 {
		t.Errorf("claims %+v: an empty list would allow everything", claims)
	}
	for _, s := range append(append([]string{}, claims.Pub.Allow...), claims.Sub.Allow...) {
		if strings.Contains(s, "$JS.API.>") || s == ">" || strings.HasPrefix(s, "*") {
			t.Errorf("permission %q", s)
		}
	}
}

// TestT17_DeniedFailsFast gives a link another site's token: the server's refusal must end the wait.
func TestT17_DeniedFailsFast(t *testing.T) {
	b := newBench(t)
	b.start(t, "127.0.0.1:0")
	b.hub(t)
	o := b.linkOptions(t, mallory, b.url)
	o.Site = victim
	l, err := link.Dial(o)
	must(t, err)
	defer l.Close()
	bustest.Await(t, l, fleetsync.LinkUp)
	began := time.Now()
	if err := l.Report(context.Background(), fleetsync.EventSubject(victim), []byte("forged")); !errors.Is(err, stream.ErrDenied) {
		t.Errorf("report: %v", err)
	}
	if _, err := l.Get(context.Background(), fleetsync.DesiredSubject(victim)); !errors.Is(err, stream.ErrDenied) {
		t.Errorf("get: %v", err)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
}
