package edge

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/apply/memcluster"
	"github.com/holdfast-fleet/holdfast/internal/store/memstore"
	"github.com/holdfast-fleet/holdfast/internal/watchdog"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// TestR21_AnUpgradeThatWasTakenBackIsNotBegunAgain crashes the agent after each step: with the store as it was, it decides the same.
func TestR21_AnUpgradeThatWasTakenBackIsNotBegunAgain(t *testing.T) {
	disk := memstore.NewDisk()
	memory := watchdog.Memory{Backs: 3, Refused: []watchdog.Refused{{Why: "an older story"}}}
	agent := func() *KubeWorkloads {
		w := NewWorkloads(memcluster.New(), Policy{Agent: AgentBundle{Name: "holdfast-edge", Namespace: "holdfast-system", Deployment: "holdfast-edge"}}, disk.Open(), zap.NewNop())
		w.watchdog = func(context.Context) (watchdog.Memory, error) { return memory, nil }
		return w
	}
	second := fleetsync.Run{Bundle: fleetsync.AssignedBundle{Name: "holdfast-edge"}, Spec: "second"}
	for range 2 { // and again after a restart, while nobody has taken it back
		if err := agent().begin(t.Context(), second); err != nil {
			t.Fatal(err)
		}
	}
	memory.Backs++
	memory.Refused = append(memory.Refused, watchdog.Refused{Why: "the new agent was not available"})
	var back *takenBack
	ran := fleetsync.Ran{}
	err := agent().begin(t.Context(), second)
	if !errors.As(err, &back) {
		t.Fatalf("%v: want that it was taken back", err)
	}
	if blame(err, &ran); ran.Outcome != fleetsync.OutcomeHalted || ran.Reason != "AgentTakenBack" {
		t.Errorf("outcome %s, reason %s", ran.Outcome, ran.Reason)
	}
	if err := agent().begin(t.Context(), second); err != nil {
		t.Errorf("a new order of the same version: %v", err)
	}
}

// TestT15_TheAgentsBundleTouchesTheAgentOnly holds the one exemption from protected namespaces to one object.
func TestT15_TheAgentsBundleTouchesTheAgentOnly(t *testing.T) {
	own := bundle.ObjectID{Group: "apps", Kind: "Deployment", Namespace: "holdfast-system", Name: "holdfast-edge"}
	p := Policy{Protected: DefaultProtected(), Agent: AgentBundle{Name: "holdfast-edge", Account: "holdfast-bundles/agent", Namespace: own.Namespace, Deployment: own.Name}}
	wide := &fleetsync.Scope{Kinds: []bundle.KindPattern{bundle.EveryKind}, ServiceAccount: "kube-system/admin"}
	scope, err := p.scope("holdfast-edge", wide)
	if err != nil || scope.Account != "holdfast-bundles/agent" || len(scope.Only) != 1 || scope.Only[0] != own {
		t.Fatalf("%+v, %v: want the agent's account and its Deployment, whatever the assignment says", scope, err)
	}
	if other, err := p.scope("shop", nil); err != nil || other.Only != nil || len(other.Protected) == 0 {
		t.Errorf("another bundle: %+v, %v", other, err)
	}
	if none, err := (Policy{Protected: DefaultProtected()}).scope("", nil); err != nil || none.Only != nil {
		t.Errorf("no agent's bundle: %+v, %v", none, err)
	}
}
