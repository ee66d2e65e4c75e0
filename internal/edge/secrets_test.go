package edge

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/internal/secret"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

var dbID = bundle.ObjectID{Kind: "Secret", Namespace: "default", Name: "db"}

// sealedFor is the secret db of the namespace default, sealed for one identity.
func sealedFor(t *testing.T, identity ed25519.PrivateKey, value string) bundle.Object {
	t.Helper()
	return sealedIn(t, "default", identity, value)
}

func sealedIn(t *testing.T, namespace string, identity ed25519.PrivateKey, value string) bundle.Object {
	t.Helper()
	statement, err := secret.Statement(shop1, identity)
	if err != nil {
		t.Fatal(err)
	}
	to, err := secret.OpenStatement(statement)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := secret.Seal(secret.Plain{Namespace: namespace, Name: "db", Data: map[string][]byte{"password": []byte(value)}}, []secret.Recipient{to})
	if err != nil {
		t.Fatal(err)
	}
	return object(string(raw))
}

// opener opens what is sealed for an identity.
func opener(t testing.TB, identity ed25519.PrivateKey) apply.Opener {
	t.Helper()
	key, err := secret.KeyOf(identity)
	if err != nil {
		t.Fatal(err)
	}
	return key.Open
}

// password is what the Secret at the site says.
func (s *site) password() string {
	data, _ := s.cluster.Body(dbID)["data"].(map[string]any)
	value, _ := data["password"].(string)
	raw, _ := base64.StdEncoding.DecodeString(value)
	return string(raw)
}

// everything is what came out of the site, its metrics among it, and what lies on its disk.
func (l *life) everything() string {
	var out strings.Builder
	l.desk.mu.Lock()
	fmt.Fprintf(&out, "%+v\n%+v\n", l.desk.state, l.desk.events)
	l.desk.mu.Unlock()
	for _, entry := range l.logs.All() {
		fmt.Fprintf(&out, "%s %v\n", entry.Message, entry.ContextMap())
	}
	if err := l.now.Scan("", func(key string, value []byte) error {
		fmt.Fprintf(&out, "%s %s\n", key, value)
		return nil
	}); err != nil {
		l.site.t.Fatal(err)
	}
	families, err := l.metrics.registry.Gather()
	if err != nil {
		l.site.t.Fatal(err)
	}
	for _, family := range families {
		fmt.Fprintln(&out, family)
	}
	return out.String()
}

// A secret for a site arrives, is put back, rotates, outlives a restart without a hub, is refused by name where it cannot be opened, and goes; and what it is
// stands nowhere but in the site's cluster.
func TestT16_SecretOfASite(t *testing.T) {
	l := newLife(t)
	l.start()
	l.assign(l.publish("2.0.0", 3, []bundle.Object{sealedFor(t, l.desk.site, canary+"-1")}))
	l.current("2.0.0")
	if got := l.password(); got != canary+"-1" {
		t.Fatalf("the Secret says %q", got)
	}
	if err := l.cluster.Edit(dbID, "kubectl-edit", func(body map[string]any) { body["data"].(map[string]any)["password"] = "c3BvaWx0" }); err != nil {
		t.Fatal(err)
	}
	l.whole("it is put back", func() bool { return l.password() == canary+"-1" && len(l.told(fleetsync.EventDriftCorrected)) == 1 })

	l.assign(l.publish("3.0.0", 4, []bundle.Object{sealedFor(t, l.desk.site, canary+"-2")}))
	l.current("3.0.0")
	if got := l.password(); got != canary+"-2" {
		t.Fatalf("after rotation the Secret says %q", got)
	}

	all := l.everything() // logs and metrics are a life's
	l.bus.Cut(shop1)
	l.restart()
	l.cluster.Remove(dbID)
	eventually(t, "it is back without a hub", func() bool { return l.password() == canary+"-2" })
	l.bus.Mend(shop1)

	_, other, _ := ed25519.GenerateKey(nil)
	l.assign(l.publish("4.0.0", 5, []bundle.Object{sealedFor(t, other, canary+"-3")}))
	eventually(t, "what is sealed for another is refused by name", func() bool {
		s := l.status("shop")
		return s.Reason == reasonSealed && strings.Contains(s.Message, "default/db")
	})
	if got := l.password(); got != canary+"-2" {
		t.Errorf("and the Secret says %q", got)
	}
	all += l.everything()
	if !strings.Contains(all, "holdfast_edge_drift_corrected") {
		t.Error("the site's metrics were not looked at")
	}
	for _, form := range []string{canary, base64.StdEncoding.EncodeToString([]byte(canary + "-1")), base64.StdEncoding.EncodeToString([]byte(canary + "-2"))} {
		if strings.Contains(all, form) {
			t.Errorf("%q came out", form)
		}
	}
	l.assign()
	eventually(t, "it goes", func() bool { return l.cluster.Body(dbID) == nil })
	if statement, err := secret.OpenStatement(l.seen().Sealing); err != nil || !bytes.Equal(statement.Identity, l.desk.site.Public().(ed25519.PublicKey)) {
		t.Errorf("the site's sealing key: %v, %v", statement, err)
	}
}

// A sealed secret in a protected namespace touches it no more than an open one.
func TestT15_SealedSecretsStayInTheirNamespaces(t *testing.T) {
	l := newLife(t)
	l.start()
	l.assign(l.publish("2.0.0", 3, []bundle.Object{sealedIn(t, "kube-system", l.desk.site, canary)}))
	eventually(t, "it is refused", func() bool { return l.status("shop").Reason == reasonOutside })
	if l.cluster.Body(bundle.ObjectID{Kind: "Secret", Namespace: "kube-system", Name: "db"}) != nil {
		t.Error("it is in the cluster")
	}
}
