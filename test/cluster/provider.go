package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Open gives a cluster of the provider that HOLDFAST_CLUSTER names. Providers other than the control plane keep to Name
// and Dir of the options, refuse EmulatedVersion and ServerFlags with ErrForeign, and ignore the rest: they are full
// clusters with at least one node. Every call gives a new cluster, except that "kubeconfig" always gives the same one.
func Open(ctx context.Context, options Options) (*Cluster, error) {
	provider := os.Getenv("HOLDFAST_CLUSTER")
	if provider == "" || provider == "controlplane" {
		return Start(ctx, options)
	}
	if options.EmulatedVersion != "" || len(options.ServerFlags) > 0 {
		return nil, fmt.Errorf("cluster: HOLDFAST_CLUSTER=%s: other versions or flags of the API server: %w", provider, ErrForeign)
	}
	if options.Name == "" {
		options.Name = "holdfast"
	}
	c := &Cluster{name: options.Name}
	err := c.makeDir(options.Dir)
	switch {
	case err != nil:
	case provider == "kind":
		err = c.createKind(ctx)
	case provider == "kubeconfig":
		err = c.adopt(os.Getenv("KUBECONFIG"))
	default:
		err = errors.New("unknown provider; have controlplane, kind, kubeconfig")
	}
	if err != nil {
		return nil, fmt.Errorf("cluster: HOLDFAST_CLUSTER=%s: %w", provider, errors.Join(err, c.Stop()))
	}
	return c, nil
}

// ForTest is Open for one test: the cluster stops with the test. A test that wants what the chosen provider cannot give
// is skipped; every other failure ends it.
func ForTest(t testing.TB, options Options) *Cluster {
	t.Helper()
	c, err := Open(t.Context(), options)
	if errors.Is(err, ErrForeign) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// shared is the one cluster of a test binary.
var shared struct {
	sync.Mutex
	cluster *Cluster
	err     error // a failed start is not tried again: every test would wait as long
}

// Shared is a full cluster that all tests of this test binary share; the first call starts it. Tests keep apart by
// namespaces and by names of cluster-wide objects, and break no program of it: for that there is ForTest. Main or
// StopShared ends it; without them its processes end with the test binary (a kind cluster stays).
func Shared(t testing.TB) *Cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil && shared.err == nil {
		// Not the test's context: that ends with the first test.
		shared.cluster, shared.err = Open(context.Background(), Options{Name: "shared"})
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.cluster
}

// StopShared stops the shared cluster if there is one.
func StopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		return nil
	}
	err := shared.cluster.Stop()
	shared.cluster = nil
	return err
}

// Main is the whole TestMain of a package whose tests use Shared. It does not return.
func Main(m *testing.M) {
	code := m.Run()
	if err := StopShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// adopt uses the current context of an existing kubeconfig (a list of files, as KUBECONFIG may be).
func (c *Cluster) adopt(list string) error {
	if list == "" {
		return errors.New("KUBECONFIG is not set: it must name the cluster to use")
	}
	rules := &clientcmd.ClientConfigLoadingRules{Precedence: filepath.SplitList(list), WarnIfAllMissing: true}
	raw, err := rules.Load()
	if err != nil {
		return fmt.Errorf("KUBECONFIG: %w", err)
	}
	if raw.CurrentContext == "" {
		return fmt.Errorf("KUBECONFIG: %s: no current context", list)
	}
	if err := api.MinifyConfig(raw); err != nil {
		return fmt.Errorf("KUBECONFIG: %w", err)
	}
	if err := api.FlattenConfig(raw); err != nil {
		return fmt.Errorf("KUBECONFIG: %w", err)
	}
	c.admin, err = clientcmd.NewDefaultClientConfig(*raw, nil).ClientConfig()
	if err != nil {
		return fmt.Errorf("KUBECONFIG: %w", err)
	}
	c.admin.QPS = -1
	c.identities = impersonation{admin: c.admin}
	c.kubeconfig = filepath.Join(c.dir, "admin.kubeconfig")
	return clientcmd.WriteToFile(*raw, c.kubeconfig)
}
