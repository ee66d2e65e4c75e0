package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/test/cluster"
	"github.com/holdfast-fleet/holdfast/test/fleet"
)

// agentDeployment is an agent's Deployment with an image.
func agentDeployment(image string) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {namespace: holdfast-system, name: holdfast-edge}
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: {app.kubernetes.io/name: holdfast-edge}}
  template:
    metadata: {labels: {app.kubernetes.io/name: holdfast-edge}}
    spec: {containers: [{name: agent, image: %q}]}
`, image)
}

// nodeOf stands for the node of a site: it runs the program that the agent's Deployment names as its image, and reports whether it lives. The
// cluster of the test has an API server and nothing else.
type nodeOf struct {
	site     *site
	client   kubernetes.Interface
	programs map[string]string // by image

	image   string
	agent   *exec.Cmd
	ended   chan struct{}
	started time.Time
}

// What a Deployment's controller says of one whose pods are available, or not yet.
var (
	truth   = map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse}
	reasons = map[bool]string{true: "NewReplicaSetAvailable", false: "ReplicaSetUpdated"}
)

// settled is how long a program lives until the node calls it available.
const settled = 500 * time.Millisecond

func (n *nodeOf) run(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			n.stop()
			return
		case <-tick.C:
			_ = n.look(ctx) // the next look is soon
		}
	}
}

func (n *nodeOf) look(ctx context.Context) error {
	deployments := n.client.AppsV1().Deployments("holdfast-system")
	d, err := deployments.Get(ctx, "holdfast-edge", metav1.GetOptions{})
	if err != nil {
		return err
	}
	if image := d.Spec.Template.Spec.Containers[0].Image; image != n.image || n.dead() {
		n.stop()
		if err := n.start(image); err != nil {
			return err
		}
	}
	available := int32(0)
	if !n.dead() && time.Since(n.started) > settled {
		available = 1
	}
	if d.Status.ObservedGeneration == d.Generation && d.Status.AvailableReplicas == available && d.Status.UpdatedReplicas == 1 {
		return nil
	}
	d.Status.ObservedGeneration, d.Status.Replicas, d.Status.UpdatedReplicas = d.Generation, 1, 1
	d.Status.ReadyReplicas, d.Status.AvailableReplicas, d.Status.UnavailableReplicas = available, available, 1-available
	d.Status.Conditions = []appsv1.DeploymentCondition{
		{Type: appsv1.DeploymentAvailable, Status: truth[available == 1], Reason: "MinimumReplicasAvailable"},
		{Type: appsv1.DeploymentProgressing, Status: corev1.ConditionTrue, Reason: reasons[available == 1]},
	}
	_, err = deployments.UpdateStatus(ctx, d, metav1.UpdateOptions{})
	return err
}

func (n *nodeOf) start(image string) error {
	n.image, n.started, n.ended = image, time.Now(), make(chan struct{})
	var err error
	if n.agent, err = n.site.EdgeCommand(n.programs[image], n.site.flags...); err == nil {
		err = n.agent.Start()
	}
	if err != nil {
		close(n.ended)
		return err
	}
	go func() {
		_ = n.agent.Wait()
		close(n.ended)
	}()
	return nil
}

func (n *nodeOf) dead() bool {
	select {
	case <-n.ended:
		return true
	default:
		return false
	}
}

// stop ends a pod as a node does.
func (n *nodeOf) stop() {
	if n.agent == nil || n.agent.Process == nil {
		return
	}
	_ = n.agent.Process.Signal(syscall.SIGTERM)
	select {
	case <-n.ended:
	case <-time.After(10 * time.Second):
		_ = n.agent.Process.Kill()
		<-n.ended
	}
}

func deploymentFrom(t *testing.T, text string) *appsv1.Deployment {
	t.Helper()
	d := new(appsv1.Deployment)
	if err := yaml.UnmarshalStrict([]byte(text), d); err != nil {
		t.Fatal(err)
	}
	return d
}

// agentOf builds an agent of a version.
func agentOf(t *testing.T, version string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "holdfast-edge-"+version)
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/holdfast-fleet/holdfast/internal/buildinfo.version="+version, "-o", program, "./cmd/edge")
	build.Dir = root()
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}

// TestR21_TheAgentIsUpgradedAndTakenBack upgrades an agent to one that does not start and then to one that does, with real agents and a real
// watchdog.
func TestR21_TheAgentIsUpgradedAndTakenBack(t *testing.T) {
	c := ownCluster(t, cluster.Options{ServerOnly: true})
	s := newStage(t)
	broken, err := exec.LookPath("false")
	if err != nil {
		t.Skip("there is no program that only fails here")
	}
	programs := map[string]string{"edge:1.0.0": agentOf(t, "1.0.0"), "edge:2.0.0": broken, "edge:2.0.1": agentOf(t, "2.0.1")}
	added, err := s.AddSite("shop-1", c)
	if err != nil {
		t.Fatal(err)
	}
	shop := &site{Site: added, stage: s, flags: []string{"--reconnect-max", "1s", "--reserve-mib", "1", "--agent-bundle", "holdfast-edge", "--agent-account", ""}}
	client, err := kubernetes.NewForConfig(c.Config())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "holdfast-system"}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The site is installed by hand; from then on its agent changes itself.
	installed := &nodeOf{site: shop, client: client, programs: programs, ended: make(chan struct{})}
	close(installed.ended)
	if _, err := client.AppsV1().Deployments("holdfast-system").Create(t.Context(), deploymentFrom(t, agentDeployment("edge:1.0.0")), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { installed.run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	watchdog := exec.Command(filepath.Join(bin, "holdfast-edge"), "watchdog", "--kubeconfig", c.Kubeconfig(), "--within", "6s", "--steady", "1s", "--every", "200ms")
	var said strings.Builder
	watchdog.Stderr = &said
	if err := watchdog.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = watchdog.Process.Signal(syscall.SIGTERM)
		_ = watchdog.Wait()
		if t.Failed() {
			t.Logf("watchdog:\n%s\nagent:\n%s", said.String(), lastLines(added.EdgeLog(), 40))
		}
	})
	for _, version := range []string{"1.0.0", "2.0.0", "2.0.1"} {
		s.release(folder(t, "agent.yaml", agentDeployment("edge:"+version)), "holdfast-edge", version)
	}
	shop.assign("holdfast-edge@1.0.0")
	shop.agentIs("1.0.0", "1.0.0", fleetsync.PhaseCurrent)
	// The watchdog knows a way back before it is needed.
	s.eventually("the watchdog to know the agent", func() error {
		note, err := client.CoreV1().ConfigMaps("holdfast-system").Get(t.Context(), "holdfast-watchdog", metav1.GetOptions{})
		if err == nil && !strings.Contains(note.Data["memory.json"], `"good":`) {
			err = fleet.ErrNotYet
		}
		return err
	})

	shop.assign("holdfast-edge@2.0.0")
	shop.agentIs("1.0.0", "2.0.0", fleetsync.PhaseHalted)
	shown, err := s.Site("shop-1")
	if err != nil {
		t.Fatal(err)
	}
	if b := shown.State.Bundles[0]; b.Reason != "AgentTakenBack" || !strings.Contains(b.Message, "not available") {
		t.Errorf("halted because %s: %s", b.Reason, b.Message)
	}

	shop.assign("holdfast-edge@2.0.1")
	shop.agentIs("2.0.1", "2.0.1", fleetsync.PhaseCurrent)
}

// agentIs waits until the site reports an agent, the version of its bundle that is wanted, and where that stands.
func (s *site) agentIs(agent, desired string, phase fleetsync.Phase) {
	s.stage.t.Helper()
	s.stage.eventually(fmt.Sprintf("agent %s with %s %s", agent, desired, phase), func() error {
		shown, err := s.stage.Site(s.Name)
		switch {
		case err != nil:
			return err
		case shown.State == nil || len(shown.State.Bundles) != 1:
			return fleet.ErrNotYet
		}
		b := shown.State.Bundles[0]
		if shown.State.Agent != agent || string(b.Desired) != desired || b.Phase != phase {
			return fmt.Errorf("agent %s, %s is %s: %s", shown.State.Agent, b.Desired, b.Phase, b.Message)
		}
		return nil
	})
}
