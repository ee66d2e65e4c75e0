package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// ErrForeign is returned by what only works on programs this package started itself: the cluster is kind or was there
// before us.
var ErrForeign = errors.New("the cluster's programs are not ours")

// startTimeout bounds Start when its context has no deadline. A start takes 2–3 s on an idle two-core machine; tests of
// other packages share it.
const startTimeout = 2 * time.Minute

// Options of a control plane without containers. The zero value is a full cluster in a temporary directory.
type Options struct {
	// Dir keeps keys, data and one log a program; it is created. Empty: a temporary one that Stop removes.
	Dir string
	// Name appears in kubeconfig contexts and errors. Empty: "holdfast".
	Name string
	// ServerOnly leaves out controllers, scheduler and node: objects are stored and nothing happens to them.
	ServerOnly bool
	// Nodes is the number of fake nodes, named node-0 and on. 0 means 1.
	Nodes int
	// EmulatedVersion makes the cluster behave as an older Kubernetes, "1.34" to "1.37". Empty: its own version.
	EmulatedVersion string
	// ServerFlags are appended to the flags of kube-apiserver.
	ServerFlags []string
	// Binary is the controlplane executable. Empty: see FindBinary.
	Binary string
}

// Cluster is a running cluster. Its methods may be used concurrently. It lives until Stop.
type Cluster struct {
	name       string
	dir        string // kubeconfigs, and for our own programs everything else
	admin      *rest.Config
	kubeconfig string
	identities identities
	plane      *plane // nil when the programs are not ours

	stop    sync.Once
	onStop  []func() error // in order; run once
	stopErr error
}

// Start starts a control plane and waits until it can be used. The context bounds the start only, not the cluster's life.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	if options.Name == "" {
		options.Name = "holdfast"
	}
	if options.Nodes == 0 {
		options.Nodes = 1
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, startTimeout)
		defer cancel()
	}
	c, err := start(ctx, options)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: start: %w", options.Name, err)
	}
	return c, nil
}

func start(ctx context.Context, options Options) (_ *Cluster, err error) {
	binary := options.Binary
	if binary == "" {
		if binary, err = FindBinary(); err != nil {
			return nil, err
		}
	}
	c := &Cluster{name: options.Name}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	if err := c.makeDir(options.Dir); err != nil {
		return nil, err
	}
	port, err := reservePort()
	if err != nil {
		return nil, err
	}
	c.onStop = append([]func() error{port.release}, c.onStop...)
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	address := fmt.Sprintf("https://127.0.0.1:%d", port.number)
	c.identities = &certificates{authority: ca, server: address}
	if c.admin, err = c.identities.config("admin", []string{"system:masters"}); err != nil {
		return nil, err
	}
	if err := writeFiles(ctx, c, ca, binary, options.ServerOnly); err != nil {
		return nil, err
	}
	c.kubeconfig = filepath.Join(c.dir, "admin.kubeconfig")
	c.plane = newPlane(binary, c.dir, port.number, options)
	c.onStop = append([]func() error{c.plane.stopAll}, c.onStop...)
	if err := c.bringUp(ctx, options); err != nil {
		return nil, err
	}
	return c, nil
}

// bringUp starts the programs in the order they need each other and creates what a cluster tool would create.
func (c *Cluster) bringUp(ctx context.Context, options Options) error {
	// The API server waits for etcd by itself.
	for _, program := range []string{"etcd", "kube-apiserver"} {
		if err := c.plane.start(program); err != nil {
			return err
		}
	}
	if err := c.waitReady(ctx); err != nil {
		return err
	}
	if options.ServerOnly {
		return nil
	}
	for _, program := range []string{"kube-controller-manager", "kube-scheduler", "kwok"} {
		if err := c.plane.start(program); err != nil {
			return err
		}
	}
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return err
	}
	if err := furnish(ctx, client, options.Nodes); err != nil {
		return err
	}
	return c.plane.watchOver(ctx, "nodes and default service account", Programs, func(ctx context.Context) error {
		return furnished(ctx, client, options.Nodes)
	})
}

func (c *Cluster) makeDir(dir string) error {
	if dir == "" {
		temporary, err := newTemporaryDir()
		if err != nil {
			return err
		}
		c.dir = temporary
		c.onStop = append(c.onStop, func() error { return os.RemoveAll(temporary) })
		return nil
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	c.dir = absolute
	return os.MkdirAll(absolute, 0o700)
}

// Stop ends the cluster; a second call does nothing and returns the same. Our own programs are killed, not asked: nothing
// of them is kept. A kind cluster is deleted; an existing cluster is left alone.
func (c *Cluster) Stop() error {
	c.stop.Do(func() {
		for _, f := range c.onStop {
			c.stopErr = errors.Join(c.stopErr, f())
		}
	})
	return c.stopErr
}

// Name of the cluster as given or as the provider calls it.
func (c *Cluster) Name() string { return c.name }

// Dir is where logs (<program>.log) and kubeconfigs lie.
func (c *Cluster) Dir() string { return c.dir }

// Config is the administrator's, without client-side rate limit. The caller may change the copy.
func (c *Cluster) Config() *rest.Config { return rest.CopyConfig(c.admin) }

// Kubeconfig is the path of the administrator's kubeconfig file. It holds its keys itself and may be copied.
func (c *Cluster) Kubeconfig() string { return c.kubeconfig }

// ConfigFor is the configuration of a user of that name in those groups, who may do only what RBAC grants. Our own
// clusters sign a client certificate; on a foreign one the administrator impersonates.
func (c *Cluster) ConfigFor(user string, groups ...string) (*rest.Config, error) {
	config, err := c.identities.config(user, groups)
	if err != nil {
		return nil, fmt.Errorf("cluster %s: user %q: %w", c.name, user, err)
	}
	return config, nil
}

// KubeconfigFor is ConfigFor as a new file; the path is returned.
func (c *Cluster) KubeconfigFor(user string, groups ...string) (string, error) {
	config, err := c.ConfigFor(user, groups...)
	if err != nil {
		return "", err
	}
	return c.newKubeconfig(config)
}

// KubeconfigForServiceAccount is the path of a new kubeconfig with a token of an existing service account, valid for a day.
func (c *Cluster) KubeconfigForServiceAccount(ctx context.Context, namespace, name string) (string, error) {
	client, err := kubernetes.NewForConfig(c.admin)
	if err != nil {
		return "", fmt.Errorf("cluster %s: service account %s/%s: %w", c.name, namespace, name, err)
	}
	token, err := requestToken(ctx, client, namespace, name)
	if err != nil {
		return "", fmt.Errorf("cluster %s: service account %s/%s: %w", c.name, namespace, name, err)
	}
	config := rest.AnonymousClientConfig(c.admin)
	config.BearerToken = token
	return c.newKubeconfig(config)
}

func (c *Cluster) newKubeconfig(config *rest.Config) (string, error) {
	f, err := os.CreateTemp(c.dir, "user-*.kubeconfig")
	if err != nil {
		return "", fmt.Errorf("cluster %s: kubeconfig: %w", c.name, err)
	}
	if err := f.Close(); err != nil {
		return "", fmt.Errorf("cluster %s: kubeconfig: %w", c.name, err)
	}
	return f.Name(), writeKubeconfig(f.Name(), c.name, config)
}
