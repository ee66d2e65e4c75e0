package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/edge"
	"github.com/holdfast-fleet/holdfast/internal/kube"
)

const storeKeyUsage = "where the key is that encrypts the store: file:PATH, secret:NAMESPACE/NAME or command:/PATH; default: in a pod secret:<its namespace>/" + edge.StoreKeySecret +
	", elsewhere " + edge.StoreKeyFile + " in the data folder"

// podNamespace is the namespace of the pod this runs in, or empty.
func podNamespace(kubeconfig string) string {
	if kubeconfig != "" || os.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return ""
	}
	raw, err := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
}

func newStore() *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "Change the key of a stopped agent's store, or begin a new store"}
	var data, storeKey, to, kubeconfig string
	rotate := &cobra.Command{
		Use: "rotate-key", Short: "Change the key that encrypts the store of a stopped agent", Args: cobra.NoArgs,
		Long: `Change the key that encrypts the store of a stopped agent: to a new one in the same place, or with --new-store-key to the one of another place, which
is made where it is missing. If it is cut off, call it again. A running agent is given a new key without this verb: put it into the first line, leave
the old one in the second, and restart the agent.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k := edge.Keyed{Dir: data, StoreKey: storeKey, Namespace: podNamespace(kubeconfig), Log: zap.NewNop(), Cluster: func() (*kube.Conn, error) {
				config, err := restConfig(kubeconfig)
				if err != nil {
					return nil, fmt.Errorf("cluster: %w", err)
				}
				return kube.Connect(config)
			}}
			in, err := edge.RotateKey(cmd.Context(), k, to)
			if err != nil {
				return withHint(err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "the store's key is changed; it is in %s\n", in)
			if err == nil && to != "" {
				_, err = fmt.Fprintln(cmd.ErrOrStderr(), "next: start the agent with --store-key "+to)
			}
			return err
		},
	}
	aside := &cobra.Command{
		Use: "set-aside", Short: "Rename the store of a stopped agent: the next start begins a new one", Args: cobra.NoArgs,
		Long: `Rename the store of a stopped agent whose key is lost: the next start begins a new one, which is a new epoch. Workloads are left alone, contents fetched
again; events that the hub did not acknowledge are lost.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			moved, err := edge.SetAside(data)
			if err != nil {
				return withHint(err)
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "the store is now %s\n", moved)
			return err
		},
	}
	for _, c := range []*cobra.Command{rotate, aside} {
		c.Flags().StringVar(&data, "data", cmp.Or(os.Getenv("HOLDFAST_EDGE_DATA"), "/var/lib/holdfast"), "the agent's data folder; default: $HOLDFAST_EDGE_DATA, else /var/lib/holdfast")
	}
	f := rotate.Flags()
	f.StringVar(&storeKey, "store-key", "", storeKeyUsage)
	f.StringVar(&to, "new-store-key", "", "another place for the key, as --store-key; default: the same place, a new key")
	f.StringVar(&kubeconfig, "kubeconfig", "", "how to reach the cluster for a Secret; default: the pod's service account, else KUBECONFIG, else ~/.kube/config")
	cmd.AddCommand(rotate, aside)
	return cmd
}

// withHint makes a failure of an error, with its hint if it has one.
func withHint(err error) error {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return failed(err, hinted.Hint())
	}
	return failed(err, "")
}
