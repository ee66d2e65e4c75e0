package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-fleet/holdfast/internal/edge"
	"github.com/holdfast-fleet/holdfast/internal/proxy"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// memoryTarget is what the Go runtime keeps the heap to where it can: an agent shares a small machine with what it looks after.
const memoryTarget = 96 << 20

type runOptions struct {
	siteFile   string
	enrol      string
	keyFile    string
	hostRoot   string
	data       string
	storeKey   string
	note       string
	kubeconfig string
	account    string
	accountsIn []string
	protected  []string
	firstApply string
	logLevel   string
	logFormat  string
	reserve    int64
	reconnect  time.Duration
	metricsAt  string
	proxy      string
	metered    bool
	agent      agentOptions
}

// agentOptions say which bundle upgrades the agent.
type agentOptions struct{ bundle, account, deployment string }

func newRun() *cobra.Command { return (&runOptions{}).command() }

func (o *runOptions) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "run (--site-file FILE | --enrol FILE) --data DIR",
		Short: "Run the agent until it is told to stop",
		Example: `  holdfast-edge run --site-file shop-1.site.json --data /var/lib/holdfast
  holdfast-edge run --enrol enrol.json --data /var/lib/holdfast
  holdfast-edge run --site-file shop-1.site.json --data ./data --kubeconfig ~/.kube/config`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&o.siteFile, "site-file", "", "the site's file, made by `holdfast site add`")
	f.StringVar(&o.enrol, "enrol", "", "enrolment file, made by `holdfast token create`: the device asks to become a site, once")
	f.StringVar(&o.keyFile, "identity-key-file", "", "file with a secret that seals the device's key in the data folder")
	f.StringVar(&o.hostRoot, "host-root", "/", "where the machine's root file system is: its serial number and machine id are read below it")
	f.StringVar(&o.data, "data", "", "folder for the agent's store (required)")
	f.StringVar(&o.storeKey, "store-key", "", storeKeyUsage)
	f.StringVar(&o.note, "note", "", "`namespace/name` of the ConfigMap that keeps the site's counters outside its disk; default: in a pod <its namespace>/"+edge.NoteName+", elsewhere kube-system/"+edge.NoteName+"-SITE")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "how to reach the cluster; default: the pod's service account, else KUBECONFIG, else ~/.kube/config")
	f.StringVar(&o.account, "service-account", "", "`namespace/name` of the service account that bundles act as whose assignment names none; default: the agent's own identity")
	f.StringSliceVar(&o.protected, "protect-namespace", edge.DefaultProtected(), "`namespaces` that no bundle may touch, whatever the hub says")
	f.StringSliceVar(&o.accountsIn, "accounts-in", nil, "`namespaces` whose service accounts an assignment may name; default: every one that is not protected")
	f.StringVar(&o.agent.bundle, "agent-bundle", "", "`name` of the bundle that upgrades this agent: it may touch nothing but the agent's Deployment; default: none")
	f.StringVar(&o.agent.account, "agent-account", "holdfast-bundles/agent", "`namespace/name` of the service account that the bundle of --agent-bundle acts as")
	f.StringVar(&o.agent.deployment, "agent-deployment", "holdfast-system/holdfast-edge", "`namespace/name` of the agent's Deployment; in a pod, Kubernetes Events beside it say what the agent does")
	f.StringVar(&o.firstApply, "first-apply", string(fleetsync.FirstApplyLease), "what begins while nobody has told the time since the machine was started: deny (nothing, nor without a link), lease (only what has no lease), or until-proven-expired")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.logFormat, "log-format", "json", "json or console")
	f.Int64Var(&o.reserve, "reserve-mib", 64, "free space that the store leaves on its disk, in MiB")
	f.DurationVar(&o.reconnect, "reconnect-max", 5*time.Minute, "longest pause before another try to reach the hub")
	f.StringVar(&o.proxy, "proxy", "", "`URL` of an HTTP proxy on the way to the hub, http://[user:password@]host:port, or none; default: what HTTPS_PROXY and NO_PROXY say, where a password is not seen in the list of processes")
	f.BoolVar(&o.metered, "metered", false, "the line to the hub costs by the byte: gather what is reported for a minute, say hello a fifth as often, and fetch a bundle that has windows no sooner than an hour before it may begin")
	f.StringVar(&o.metricsAt, "metrics-listen", "", "`host:port` for /metrics and /healthz, without TLS: a loopback or pod address; default: none")
	cmd.MarkFlagsOneRequired("site-file", "enrol")
	cmd.MarkFlagsMutuallyExclusive("site-file", "enrol")
	_ = cmd.MarkFlagRequired("data")
	return cmd
}

func (o *runOptions) run(cmd *cobra.Command) error {
	policy, err := o.policy()
	if err != nil {
		return err
	}
	firstApply, err := fleetsync.ParseFirstApply(o.firstApply)
	if err != nil {
		return fmt.Errorf("--first-apply: %w", err)
	}
	through, err := proxy.Parse(o.proxy)
	if err != nil {
		return fmt.Errorf("--proxy: %w", err)
	}
	log, err := newLog(o.logLevel, o.logFormat)
	if err != nil {
		return err
	}
	defer func() { _ = log.Sync() }()
	if o.reserve < 1 || o.reserve > 1<<30 {
		return fmt.Errorf("--reserve-mib %d: want 1 to %d", o.reserve, 1<<30)
	}
	debug.SetMemoryLimit(memoryTarget)
	debug.SetGCPercent(50)
	cluster, err := restConfig(o.kubeconfig)
	if err != nil {
		return failed(fmt.Errorf("cluster: %w", err), "give --kubeconfig FILE, or run in a pod with a service account")
	}
	namespace, beside := podNamespace(o.kubeconfig), ""
	if namespace != "" {
		_, name, err := deploymentName("--agent-deployment", o.agent.deployment)
		if err != nil {
			return err
		}
		beside = namespace + "/" + name
	}
	err = edge.Main(cmd.Context(), edge.Config{SiteFile: o.siteFile, Enrol: o.enrol, KeyFile: o.keyFile, HostRoot: o.hostRoot, Node: os.Getenv("NODE_NAME"), Dir: o.data, StoreKey: o.storeKey, Note: o.note, Namespace: namespace, Deployment: beside, Cluster: cluster, Policy: policy, FirstApply: firstApply, ReserveBytes: o.reserve << 20, ReconnectMax: o.reconnect, Metered: o.metered, MetricsAt: o.metricsAt, Proxy: through, Log: log})
	if err != nil {
		return withHint(err)
	}
	return nil
}

// policy is what the site itself allows.
func (o *runOptions) policy() (edge.Policy, error) {
	p := edge.Policy{AccountsIn: o.accountsIn, Protected: o.protected}
	if o.account != "" {
		account, err := bundle.ParseAccount(o.account)
		if err != nil {
			return p, fmt.Errorf("--service-account: %w", err)
		}
		p.Account = account
	}
	agent, err := o.agent.policy()
	if err != nil {
		return p, err
	}
	p.Agent = agent
	for flag, namespaces := range map[string][]string{"--protect-namespace": o.protected, "--accounts-in": o.accountsIn} {
		for _, namespace := range namespaces {
			if _, err := bundle.ParseName(namespace); err != nil { // a namespace is a DNS label, as a bundle's name is
				return p, fmt.Errorf("%s %.80q: not a namespace", flag, namespace)
			}
		}
	}
	return p, nil
}

func (o agentOptions) policy() (a edge.AgentBundle, err error) {
	if o.bundle == "" {
		return a, nil
	}
	if a.Name, err = bundle.ParseName(o.bundle); err != nil {
		return a, fmt.Errorf("--agent-bundle: %w", err)
	}
	if o.account != "" {
		if a.Account, err = bundle.ParseAccount(o.account); err != nil {
			return a, fmt.Errorf("--agent-account: %w", err)
		}
	}
	a.Namespace, a.Deployment, err = deploymentName("--agent-deployment", o.deployment)
	return a, err
}

// deploymentName reads namespace/name.
func deploymentName(flag, text string) (namespace, name string, err error) {
	namespace, name, _ = strings.Cut(text, "/")
	for _, part := range []string{namespace, name} {
		if _, err := bundle.ParseName(part); err != nil {
			return "", "", fmt.Errorf("%s %.120q: want namespace/name", flag, text)
		}
	}
	return namespace, name, nil
}

func newLog(level, format string) (*zap.Logger, error) {
	config := zap.NewProductionConfig()
	config.EncoderConfig.EncodeTime = zapcore.RFC3339TimeEncoder
	if format == "console" {
		config = zap.NewDevelopmentConfig()
	} else if format != "json" {
		return nil, fmt.Errorf("--log-format %q: want json or console", format)
	}
	parsed, err := zap.ParseAtomicLevel(level)
	if err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", level)
	}
	config.Level, config.DisableStacktrace, config.DisableCaller = parsed, true, true
	return config.Build()
}

func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		if inPod, err := rest.InClusterConfig(); err == nil {
			return inPod, nil
		}
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if rules.ExplicitPath = kubeconfig; kubeconfig != "" {
		if _, err := os.Stat(kubeconfig); err != nil {
			return nil, err
		}
	}
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
}
