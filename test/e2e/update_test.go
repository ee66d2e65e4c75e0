package e2e

import (
	"fmt"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-fleet/holdfast/internal/api"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestF22_RejectedBundleChangesNothing: one object of several is refused by the API server.
func TestF22_RejectedBundleChangesNothing(t *testing.T) {
	c := sharedCluster(t)
	s := newStage(t)
	at := s.site("store", c)
	const name, namespace = "rejected", "rejected"
	s.release(shopFolder(t, namespace, "one"), name, "1.0.0")
	at.assign(name + "@1.0.0")
	at.runs(name, "1.0.0")
	before := at.settled().of(name)

	wrong := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: wrong, namespace: %s}\nspec: {ports: [{port: 70000}]}\n", namespace)
	s.release(shopFolder(t, namespace, "two", "wrong.yaml", wrong), name, "1.1.0")
	at.assign(name + "@1.1.0")
	status := at.stands(name, fleetsync.PhaseFailed)
	if status.Current != "1.0.0" {
		t.Errorf("the site says it runs %s, want 1.0.0", status.Current)
	}
	words := []string{"Service/" + namespace + "/wrong", "spec.ports[0].port", "70000", "between 1 and 65535"}
	shown := s.cli("site", "show", at.Name)
	for _, word := range words {
		if !strings.Contains(status.Message, word) || !strings.Contains(shown, word) {
			t.Errorf("want the words %q in the status (%q) and in\n%s", word, status.Message, shown)
		}
	}
	told := at.tells("the rejection", func(e api.SiteEvent) bool { return e.Kind == fleetsync.EventApplyFailed })
	if told.Object != words[0] || told.Version != "1.1.0" {
		t.Errorf("the event is about %s of %s: %+v", told.Object, told.Version, told)
	}
	before.unchanged(t, at.settled().of(name), "rejected")
	at.hands(namespace).expectGone("wrong")

	// What ran before is still kept right, also by an agent that starts now.
	h := at.hands(namespace)
	deleted := h.deleteService()
	h.greet("by hand")
	h.repaired("one", deleted)
	at.StopEdge(false)
	deleted = h.deleteService()
	at.start()
	h.repaired("one", deleted)

	s.release(shopFolder(t, namespace, "three", "right.yaml", strings.ReplaceAll(wrong, "70000", "7000")), name, "1.2.0")
	at.assign(name + "@1.2.0")
	at.runs(name, "1.2.0")
	at.unassign(name)
}

func (h hands) expectGone(service string) {
	h.t.Helper()
	if _, err := h.CoreV1().Services(h.namespace).Get(h.context(), service, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		h.t.Errorf("Service %s: %v, want none", service, err)
	}
}

const job = `
apiVersion: batch/v1
kind: Job
metadata: {name: seed, namespace: %s}
spec:
  template:
    spec:
      restartPolicy: Never
      containers: [{name: seed, image: "registry.k8s.io/pause:%s"}]
`

const replaceJobs = "apiVersion: holdfast.dev/v1\nkind: BundleConfig\npolicy: {replace: [batch/Job]}\n"

// TestJobIsReplacedOnlyWhereThePolicySaysSo: a Job's template cannot be changed.
func TestJobIsReplacedOnlyWhereThePolicySaysSo(t *testing.T) {
	c := sharedCluster(t)
	s := newStage(t)
	at := s.site("store", c)
	const name, namespace = "jobs", "jobs"
	h := at.hands(namespace)
	release := func(version, image string, more ...string) {
		s.release(shopFolder(t, namespace, version, append(more, "job.yaml", fmt.Sprintf(job, namespace, image))...), name, version)
		at.assign(name + "@" + version)
	}
	release("1.0.0", "3.9")
	at.runs(name, "1.0.0")
	first := h.job()

	release("1.1.0", "3.10")
	status := at.stands(name, fleetsync.PhaseFailed)
	for _, word := range []string{"Job.batch/jobs/seed", "immutable", "policy.replace"} {
		if !strings.Contains(status.Message, word) {
			t.Errorf("the site says %q, want %q", status.Message, word)
		}
	}
	if now := h.job(); now.UID != first.UID {
		t.Error("the Job was replaced without leave")
	}
	if now, err := h.greeting(); err != nil || now != "1.0.0" {
		t.Errorf("half of the bundle was applied: %q, %v", now, err)
	}

	release("1.2.0", "3.10", "holdfast.yaml", replaceJobs)
	at.runs(name, "1.2.0")
	if now := h.job(); now.UID == first.UID || !strings.HasSuffix(now.Spec.Template.Spec.Containers[0].Image, ":3.10") {
		t.Errorf("the Job was not replaced: %+v", now.Spec.Template.Spec.Containers)
	}
	at.unassign(name)
	if _, err := h.CoreV1().Namespaces().Get(s.context(), namespace, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("namespace %s: %v, want none", namespace, err)
	}
}

func (h hands) job() *batchv1.Job {
	h.t.Helper()
	j, err := h.BatchV1().Jobs(h.namespace).Get(h.context(), "seed", metav1.GetOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	return j
}

// TestBundleWaitsForWhatItRequires: the base has to be there in the version that is asked for.
func TestBundleWaitsForWhatItRequires(t *testing.T) {
	c := sharedCluster(t)
	s := newStage(t)
	at := s.site("store", c)
	const requires = "apiVersion: holdfast.dev/v1\nkind: BundleConfig\nrequires: [{name: base, minVersion: 2.0.0}]\n"
	s.release(shopFolder(t, "base", "one"), "base", "1.0.0")
	s.release(shopFolder(t, "base", "two"), "base", "2.0.0")
	s.release(shopFolder(t, "upper", "one", "holdfast.yaml", requires), "upper", "1.0.0")

	at.assign("upper@1.0.0")
	waits := func() {
		t.Helper()
		s.eventually("upper to say that it waits", func() error {
			status, err := at.status("upper")
			if err == nil && (status.Phase != fleetsync.PhaseAccepted || !strings.Contains(status.Message, "base")) {
				err = fmt.Errorf("it is %s: %s: %s", status.Phase, status.Reason, status.Message)
			}
			return err
		})
	}
	waits()
	at.assign("base@1.0.0")
	at.runs("base", "1.0.0")
	waits()
	if _, err := at.hands("upper").greeting(); !apierrors.IsNotFound(err) {
		t.Errorf("upper is there before what it requires: %v", err)
	}
	at.assign("base@2.0.0")
	at.runs("base", "2.0.0")
	at.runs("upper", "1.0.0")
	at.unassign("upper")
	at.unassign("base")
}
