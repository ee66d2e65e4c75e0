package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/holdfast-fleet/holdfast/internal/api"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/bench/figures"
	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// patience is how long one thing may take before the bench gives up. Kubernetes itself may take minutes to let a namespace go.
const patience = 5 * time.Minute

// The users of the cluster. Both are its administrators, and neither is exempt from the server's priority and fairness.
const (
	agentUser = "bench-agent"
	rivalUser = "bench-rival"
)

// siteName is the site that has a cluster.
const siteName = "bench"

// stand is what the figures are measured on: one hub, one site with a cluster, and rivals on the same cluster.
type stand struct {
	options
	*figures.Figures
	began   time.Time
	dir     string
	cluster *cluster.Cluster
	admin   *kubernetes.Clientset
	fleet   *fleet.Fleet
	site    *fleet.Site
	hub     *api.Client
	bare    *bareLoop
}

// tell says on standard error what goes on.
func (s *stand) tell(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%6.1fs  %s\n", time.Since(s.began).Seconds(), fmt.Sprintf(format, args...))
}

func (s *stand) open(ctx context.Context) (err error) {
	s.tell("starting a hub, and a site with a Kubernetes control plane")
	if s.cluster, err = cluster.Open(ctx, cluster.Options{Name: "bench", Dir: filepath.Join(s.dir, "cluster")}); err != nil {
		return err
	}
	if s.admin, err = kubernetes.NewForConfig(s.cluster.Config()); err != nil {
		return err
	}
	for _, user := range []string{agentUser, rivalUser} {
		if err := s.welcome(ctx, user); err != nil {
			return err
		}
	}
	rival, err := s.cluster.ConfigFor(rivalUser)
	if err != nil {
		return err
	}
	if s.bare, err = newBareLoop(rival); err != nil {
		return err
	}
	if s.fleet, err = fleet.New(s.dir, s.bin); err != nil {
		return err
	}
	if err := s.fleet.StartHub(ctx); err != nil {
		return err
	}
	if s.hub, err = fleet.Admin(filepath.Join(s.fleet.Dir, "hub")); err != nil {
		return err
	}
	if s.site, err = s.fleet.AddSite(siteName, s.cluster); err != nil {
		return err
	}
	if err := s.startAgent(); err != nil {
		return err
	}
	_, err = s.event(ctx, siteName, s.began, fleetsync.EventClusterUp, "", "")
	return err
}

func (s *stand) close() {
	if s.fleet != nil {
		s.fleet.Close()
	}
	if s.cluster != nil {
		_ = s.cluster.Stop()
	}
}

// welcome lets a user administer the cluster and counts its requests apart.
func (s *stand) welcome(ctx context.Context, user string) error {
	subject := rbacv1.Subject{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: user}
	if _, err := s.admin.RbacV1().ClusterRoleBindings().Create(ctx, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: user}, Subjects: []rbacv1.Subject{subject},
		RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
	}, metav1.CreateOptions{}); err != nil {
		return err
	}
	_, err := s.admin.FlowcontrolV1().FlowSchemas().Create(ctx, &flowcontrolv1.FlowSchema{
		ObjectMeta: metav1.ObjectMeta{Name: user},
		Spec: flowcontrolv1.FlowSchemaSpec{
			MatchingPrecedence:         500,
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: "workload-high"},
			Rules: []flowcontrolv1.PolicyRulesWithSubjects{{
				Subjects: []flowcontrolv1.Subject{{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: user}}},
				ResourceRules: []flowcontrolv1.ResourcePolicyRule{{Verbs: []string{"*"}, APIGroups: []string{"*"}, Resources: []string{"*"},
					ClusterScope: true, Namespaces: []string{"*"}}},
				NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{Verbs: []string{"*"}, NonResourceURLs: []string{"*"}}},
			}},
		},
	}, metav1.CreateOptions{})
	return err
}

// requests is how many requests of the agent the API server has served so far.
func (s *stand) requests(ctx context.Context) (float64, error) {
	raw, err := s.admin.RESTClient().Get().AbsPath("/metrics").DoRaw(ctx)
	if err != nil {
		return 0, fmt.Errorf("metrics of the API server: %w", err)
	}
	var sum float64
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if !strings.HasPrefix(line, "apiserver_flowcontrol_dispatched_requests_total{") || !strings.Contains(line, `flow_schema="`+agentUser+`"`) {
			continue
		}
		n, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("metrics of the API server: %w", err)
		}
		sum += n
	}
	return sum, lines.Err()
}

// startAgent starts the agent of the site with a cluster.
func (s *stand) startAgent() error {
	kubeconfig, err := s.cluster.KubeconfigFor(agentUser)
	if err != nil {
		return err
	}
	return s.site.StartEdge("--kubeconfig", kubeconfig, "--reconnect-max", "2s")
}

// assign asks the hub to have a site run a bundle, and says when it was asked.
func (s *stand) assign(ctx context.Context, site, name, version string) (time.Time, error) {
	began := time.Now()
	results, err := s.hub.Assign(ctx, api.AssignRequest{Sites: []bundle.SiteID{bundle.SiteID(site)}, Bundle: bundle.Ref{Name: bundle.Name(name), Version: bundle.Version(version)}})
	if err == nil && results[0].Error != nil {
		err = &api.Error{Problem: *results[0].Error}
	}
	return began, err
}

// unassign removes a bundle and waits until the site has.
func (s *stand) unassign(ctx context.Context, name string) error {
	began := time.Now()
	if _, err := s.hub.Unassign(ctx, api.UnassignRequest{Sites: []bundle.SiteID{siteName}, Name: bundle.Name(name)}); err != nil {
		return err
	}
	_, err := s.event(ctx, siteName, began, fleetsync.EventRemoved, name, "")
	return err
}

// run assigns a bundle and says how many seconds later the site had applied it, and when that was.
func (s *stand) run(ctx context.Context, name, version string) (seconds float64, applied time.Time, err error) {
	began, err := s.assign(ctx, siteName, name, version)
	if err != nil {
		return 0, time.Time{}, err
	}
	event, err := s.event(ctx, siteName, began, fleetsync.EventApplied, name, version)
	return event.At.Sub(began).Seconds(), event.At, err
}

// event waits for an event that the hub received since a time. Empty name and version match every one.
func (s *stand) event(ctx context.Context, site string, since time.Time, kind fleetsync.EventKind, name, version string) (found api.SiteEvent, err error) {
	what := fmt.Sprintf("%s of %s %s at %s", kind, name, version, site)
	err = fleet.Until(ctx, patience, what, func() error {
		events, err := s.hub.Events(ctx, api.EventQuery{Site: bundle.SiteID(site), Since: since, Limit: 1000})
		if err != nil {
			return err
		}
		err = fleet.ErrNotYet
		for _, e := range events {
			if e.Kind == kind && !e.At.Before(since) && (name == "" || string(e.Bundle) == name) && (version == "" || string(e.Version) == version) {
				found = e
				return nil
			}
			if e.Kind == fleetsync.EventApplyFailed || e.Kind == fleetsync.EventRefused {
				err = fmt.Errorf("%s: %s: %s", e.Kind, e.Reason, e.Message)
			}
		}
		return err
	})
	return found, err
}

// current waits until the hub knows that the site runs a version and is healthy.
func (s *stand) current(ctx context.Context, name, version string) error {
	return fleet.Until(ctx, patience, name+" to be healthy", func() error { return s.fleet.Runs(siteName, name, version) })
}
