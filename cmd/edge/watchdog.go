package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-fleet/holdfast/internal/edge"
	"github.com/holdfast-fleet/holdfast/internal/watchdog"
)

func newWatchdog() *cobra.Command {
	var kubeconfig, deployment, logLevel, logFormat string
	var within, steady, every time.Duration
	cmd := &cobra.Command{
		Use:   "watchdog",
		Short: "Put the agent before back when a new one does not become available",
		Long: `Watch the agent's Deployment from outside. A pod template that was available for --steady is the good one; another one has --within to become that,
or the good one is put back. The agent that comes back does not begin the same upgrade again before a new order, and reports why.

It is a program of its own, of the version that was installed, because an agent that cannot start cannot help itself. It needs no store and no hub.`,
		Example: "  holdfast-edge watchdog --deployment holdfast-system/holdfast-edge --within 10m",
		Args:    cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&kubeconfig, "kubeconfig", "", "how to reach the cluster; default: the pod's service account, else KUBECONFIG, else ~/.kube/config")
	f.StringVar(&deployment, "deployment", "holdfast-system/holdfast-edge", "`namespace/name` of the agent's Deployment")
	f.DurationVar(&within, "within", 10*time.Minute, "how long a new agent has to become available")
	f.DurationVar(&steady, "steady", time.Minute, "how long it has to stay available until it counts")
	f.DurationVar(&every, "every", 10*time.Second, "time between two looks")
	f.StringVar(&logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&logFormat, "log-format", "json", "json or console")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		namespace, name, err := deploymentName("--deployment", deployment)
		if err != nil {
			return err
		}
		if every < 100*time.Millisecond || steady < 0 || within <= steady {
			return fmt.Errorf("--within %s, --steady %s, --every %s: want --within longer than --steady, and --every of 100ms or more", within, steady, every)
		}
		log, err := newLog(logLevel, logFormat)
		if err != nil {
			return err
		}
		defer func() { _ = log.Sync() }()
		cluster, err := restConfig(kubeconfig)
		if err != nil {
			return failed(fmt.Errorf("cluster: %w", err), "give --kubeconfig FILE, or run in a pod with a service account")
		}
		err = edge.Watchdog(cmd.Context(), edge.WatchdogConfig{
			Cluster: cluster, Namespace: namespace, Deployment: name, Rules: watchdog.Rules{Within: within, Steady: steady}, Every: every, Log: log,
		})
		if err != nil {
			return failed(err, "")
		}
		return nil
	}
	return cmd
}
