package edge

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/internal/storekey"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/verifytest"
	"github.com/holdfast-fleet/holdfast/test/cluster"
)

// realLife begins a life with the real store, the real anchor and a real API server; only the bus is the twin.
func realLife(t *testing.T, d *desk, c *cluster.Cluster, dir string) (end func()) {
	t.Helper()
	m, err := remember(Config{Dir: dir, ReserveBytes: 1 << 20, Log: zap.NewNop()}, aRing, sealOf(d.site))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := kube.Connect(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	hub := d.bus.Link(shop1)
	agent := New(Options{
		Site: &fleetsync.SiteFile{Site: shop1}, Trust: fixed(verifytest.Trust(d.release), d.key.Public().(ed25519.PublicKey)), Signatures: verifytest.Twin{}, Store: m.store, Link: hub,
		Workloads: NewWorkloads(conn, Policy{}, m.store, zap.NewNop()).Opening(opener(t, d.site)), Marks: m.anchored.Counters, SaveMarks: m.saveMarks, Damage: m.damage,
		Key: d.site, Version: "test", Epoch: newEpoch(), Log: zap.NewNop(),
	})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- agent.Run(ctx) }()
	var over bool
	end = func() {
		if over {
			return
		}
		over = true
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the agent ended with %v", err)
		}
		_ = hub.Close()
		m.close(zap.NewNop())
	}
	t.Cleanup(end)
	return end
}

// A store that was damaged on the disk is set aside. On a real API server what it had applied is taken over again without a conflict with
// ourselves: no object is written to, replaced or lost; an older release stays refused; drift is corrected.
func TestF07T03_DamagedStoreOnARealCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a control plane")
	}
	c := cluster.Shared(t)
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	const namespace = "edge-f07"
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	objects := func(value string) []bundle.Object {
		return []bundle.Object{
			object(fmt.Sprintf(`{"apiVersion":"v1","data":{"k":%q},"kind":"ConfigMap","metadata":{"name":"a","namespace":%q}}`, value, namespace)),
			object(fmt.Sprintf(`{"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":%q},"spec":{"ports":[{"port":80}],"selector":{"app":"web"}}}`, namespace)),
			object(fmt.Sprintf(`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web","namespace":%q},"spec":{"replicas":2,"selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"image":"web:1","name":"web"}]}}}}`, namespace)),
		}
	}
	d := newDesk(t)
	older, newer := d.publish("1.0.0", 1, objects("1")), d.publish("1.1.0", 2, objects("2"))
	dir := t.TempDir()
	end := realLife(t, d, c, dir)
	d.assign(older)
	d.current("1.0.0")
	d.assign(newer)
	d.current("1.1.0")
	left := func() string {
		var b strings.Builder
		a, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "a", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := client.CoreV1().Services(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		w, err := client.AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(&b, a.UID, a.ResourceVersion, a.Data, s.UID, s.ResourceVersion, w.UID, w.Generation)
		return b.String()
	}
	before := left()
	end()
	damageStore(t, filepath.Join(dir, "store", "db"))

	d.assign(older)
	end = realLife(t, d, c, dir)
	eventually(t, "the older release is refused", d.phase(fleetsync.PhaseRefused, "1.0.0"))
	if now := left(); now != before {
		t.Errorf("workloads were touched: %s was %s", now, before)
	}
	d.assign(newer)
	d.current("1.1.0")
	if now := left(); now != before {
		t.Errorf("taking over wrote to objects: %s was %s", now, before)
	}
	if damage := d.told(fleetsync.EventStoreDamaged); len(damage) != 1 || !strings.Contains(damage[0].Message, "set aside as") {
		t.Errorf("told: %+v", damage)
	}
	if err := client.CoreV1().ConfigMaps(namespace).Delete(t.Context(), "a", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion is undone", func() bool {
		a, err := client.CoreV1().ConfigMaps(namespace).Get(t.Context(), "a", metav1.GetOptions{})
		return err == nil && a.Data["k"] == "2"
	})
	d.assign()
	eventually(t, "all is removed", func() bool { return len(d.seen().Bundles) == 0 })
	if _, err := client.AppsV1().Deployments(namespace).Get(t.Context(), "web", metav1.GetOptions{}); err == nil {
		t.Error("the inventory forgot the Deployment")
	}
	end()
}

// A sealed secret becomes a Secret of a real API server. It rotates in place, is put back when it was changed or deleted, outlives a restart of the
// agent while there is no line to the hub, and is removed.
func TestP03_SealedSecretOnARealCluster(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a control plane")
	}
	c := cluster.Shared(t)
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	made, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "edge-sealed-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	namespace := made.Name
	secrets := client.CoreV1().Secrets(namespace)
	says := func(value string) func() bool {
		return func() bool {
			s, err := secrets.Get(t.Context(), "db", metav1.GetOptions{})
			return err == nil && s.Type == corev1.SecretTypeOpaque && string(s.Data["password"]) == value && len(s.Data) == 1
		}
	}
	d := newDesk(t)
	dir := t.TempDir()
	end := realLife(t, d, c, dir)
	d.assign(d.publish("1.0.0", 1, []bundle.Object{sealedIn(t, namespace, d.site, canary+"-1")}))
	d.current("1.0.0")
	eventually(t, "it is there", says(canary+"-1"))
	first, err := secrets.Get(t.Context(), "db", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}

	d.assign(d.publish("1.1.0", 2, []bundle.Object{sealedIn(t, namespace, d.site, canary+"-2")}))
	d.current("1.1.0")
	eventually(t, "it is rotated", says(canary+"-2"))
	if rotated, err := secrets.Get(t.Context(), "db", metav1.GetOptions{}); err != nil || rotated.UID != first.UID {
		t.Errorf("rotation made another object: %v", err)
	}

	if _, err := secrets.Patch(t.Context(), "db", types.MergePatchType, []byte(`{"data":{"password":"c3BvaWx0"}}`), metav1.PatchOptions{FieldManager: "kubectl-edit"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the edit is undone", says(canary+"-2"))
	if err := secrets.Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the deletion is undone", says(canary+"-2"))

	end()
	d.bus.Cut(shop1)
	if err := secrets.Delete(t.Context(), "db", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	end = realLife(t, d, c, dir)
	eventually(t, "it is back without a hub", says(canary+"-2"))

	d.bus.Mend(shop1)
	d.assign()
	eventually(t, "all is removed", func() bool { return len(d.seen().Bundles) == 0 })
	if _, err := secrets.Get(t.Context(), "db", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("it is still there: %v", err)
	}
	end()
}

// damageStore flips a byte in the middle of every file.
func damageStore(t *testing.T, dir string) {
	t.Helper()
	damaged := 0
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil || len(raw) == 0 {
			return err
		}
		for i := range raw {
			raw[i] ^= 0x5a
		}
		damaged++
		return os.WriteFile(path, raw, 0o600)
	})
	if err != nil || damaged == 0 {
		t.Fatalf("%d files damaged: %v", damaged, err)
	}
}

// A record of the agent's own that does not decode is damage of the store too: it is set aside, and the agent goes on with what the hub and the
// anchor know.
func TestF07_RecordThatCannotBeRead(t *testing.T) {
	l := newLife(t)
	l.start()
	l.steps()[0]()
	l.halt()
	tamper(t, l.disk.Open(), fleetsync.RecordPrefix+"assignment", func([]byte) []byte { return []byte("garbage") })
	m, err := remember(Config{Dir: t.TempDir(), ReserveBytes: 1 << 20, Log: zap.NewNop()}, aRing, sealOf(l.desk.site))
	if err != nil {
		t.Fatal(err)
	}
	defer m.close(zap.NewNop())
	store := l.disk.Open()
	agent := New(Options{Site: &fleetsync.SiteFile{Site: shop1}, Trust: fixed(nil), Store: store, Link: l.bus.Link(shop1), Workloads: NewWorkloads(l.cluster, Policy{}, store, zap.NewNop()),
		Key: l.desk.site, Epoch: newEpoch(), Log: zap.NewNop()})
	err = agent.Run(t.Context())
	if _, ok := err.(*unreadable); !ok {
		t.Fatalf("Run: %v", err)
	}
	head := m.store.Head()
	if err := m.setAside(err); err != nil {
		t.Fatal(err)
	}
	if m.store.Head() == head || !strings.Contains(m.damage, "assignment") {
		t.Errorf("damage %q", m.damage)
	}
	if err := m.store.Commit(fleetsync.Record{Key: "x", Value: []byte("y")}); err != nil {
		t.Errorf("the new store: %v", err)
	}
}

// Where no new store can be begun in the place of a damaged one, the agent ends with the reason.
func TestF07_NoRoomForANewStoreIsAnError(t *testing.T) {
	opens := 0
	m, err := remember(Config{Dir: t.TempDir(), ReserveBytes: 1 << 20, Log: zap.NewNop(), open: func(o store.Options) (opened, error) {
		if opens++; opens > 1 {
			return nil, fleetsync.ErrNoSpace
		}
		return store.Open(o)
	}}, aRing, sealOf(newLife(t).desk.site))
	if err != nil {
		t.Fatal(err)
	}
	if err := m.setAside(errors.New("damaged")); !errors.Is(err, fleetsync.ErrNoSpace) {
		t.Errorf("set aside: %v", err)
	}
	m.close(zap.NewNop())
}

// aRing has the key of the stores of tests.
var aRing = storekey.Fresh()
