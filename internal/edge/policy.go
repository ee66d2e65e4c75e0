package edge

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-fleet/holdfast/internal/apply"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Policy is what the site itself lets bundles do, whoever orders what. It is given where the agent is started; the hub can narrow what it
// leaves, never widen it.
type Policy struct {
	// Account is who bundles act as whose assignment names nobody; empty: as the agent itself.
	Account bundle.Account
	// AccountsIn are the namespaces whose accounts an assignment may name; nil: every one that is not protected.
	AccountsIn []string
	// Protected namespaces are touched by no bundle.
	Protected []string
	// Agent is the bundle that upgrades the agent itself.
	Agent AgentBundle
}

// DefaultProtected are the namespaces of Kubernetes itself and of the agent.
func DefaultProtected() []string {
	return []string{"kube-system", "kube-public", "kube-node-lease", "holdfast-system"}
}

// outside is an order that goes beyond the site's policy before any object is looked at.
type outside struct{ error }

// scope is what a bundle may touch: what is ordered, less what the policy forbids.
func (p Policy) scope(name bundle.Name, ordered *fleetsync.Scope) (apply.Scope, error) {
	if p.Agent.Name != "" && name == p.Agent.Name { // whatever the assignment says
		return apply.Scope{Account: p.Agent.Account, Only: []bundle.ObjectID{p.Agent.object()}}, nil
	}
	if ordered == nil {
		return apply.Scope{Account: p.Account, Kinds: []bundle.KindPattern{bundle.EveryKind}, Protected: p.Protected}, nil
	}
	account := p.Account
	if named := ordered.ServiceAccount; named != "" && named != p.Account {
		// An assignment is checked when it comes; what is stored of it may be older than the rules.
		if _, err := bundle.ParseAccount(string(named)); err != nil {
			return apply.Scope{}, &outside{err}
		}
		switch namespace := named.Namespace(); {
		case p.AccountsIn == nil && slices.Contains(p.Protected, namespace):
			return apply.Scope{}, &outside{fmt.Errorf("service account %s: namespace %s is protected at this site", named, namespace)}
		case p.AccountsIn != nil && !slices.Contains(p.AccountsIn, namespace):
			return apply.Scope{}, &outside{fmt.Errorf("service account %s: at this site bundles act only as accounts in %s", named, strings.Join(p.AccountsIn, ", "))}
		}
		account = named
	}
	return apply.Scope{Account: account, Kinds: ordered.Kinds, Namespaces: ordered.Namespaces, Protected: p.Protected}, nil
}
