package edge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"k8s.io/client-go/rest"

	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/watchdog"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// WatchdogConfig is what a watchdog is started with.
type WatchdogConfig struct {
	Cluster               *rest.Config
	Namespace, Deployment string // of the agent
	Rules                 watchdog.Rules
	Every                 time.Duration // between two looks
	Log                   *zap.Logger
}

// watchdogNote is where a watchdog keeps its memory, in the agent's namespace.
func watchdogNote(namespace string) kube.Note {
	return kube.Note{Namespace: namespace, Name: "holdfast-watchdog", Key: "memory.json"}
}

// Watchdog looks after the agent's Deployment until ctx ends. A cluster that does not answer is waited for.
func Watchdog(ctx context.Context, c WatchdogConfig) error {
	cluster, err := kube.Connect(c.Cluster)
	if err != nil {
		return err
	}
	started, last := time.Now(), ""
	tick := time.NewTicker(c.Every)
	defer tick.Stop()
	for {
		switch err := watchOnce(ctx, c, cluster, started); {
		case ctx.Err() != nil:
			return nil
		case err == nil:
			last = ""
		case err.Error() != last: // said once
			last = err.Error()
			c.Log.Warn("the agent cannot be looked after now", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func watchOnce(ctx context.Context, c WatchdogConfig, cluster *kube.Conn, started time.Time) error {
	note := watchdogNote(c.Namespace)
	memory, version, err := readMemory(ctx, cluster, note)
	if err != nil {
		return err
	}
	seen, err := cluster.ReadDeployment(ctx, c.Namespace, c.Deployment)
	if err != nil {
		return err
	}
	if len(seen.Template) > watchdog.MaxTemplate {
		return fmt.Errorf("the agent's pod template has %d bytes, at most %d can be kept", len(seen.Template), watchdog.MaxTemplate)
	}
	next, back := watchdog.Step(time.Now().UTC(), started, memory, watchdog.Seen{Template: seen.Template, Available: seen.Available}, c.Rules)
	was, err := watchdog.Encode(memory)
	if err != nil {
		return err
	}
	now, err := watchdog.Encode(next)
	if err != nil {
		return err
	}
	if string(was) != string(now) || version == "" {
		// Commit point: the way back is counted before it is taken (W2), so that the agent it brings back knows.
		if _, err := cluster.WriteNote(ctx, note, string(now), version); err != nil {
			return err
		}
	}
	if back == nil {
		return nil
	}
	c.Log.Warn("putting the agent before back", zap.String("why", next.Refused[len(next.Refused)-1].Why))
	return cluster.PutTemplate(ctx, c.Namespace, c.Deployment, seen.Version, back)
}

func readMemory(ctx context.Context, cluster *kube.Conn, note kube.Note) (watchdog.Memory, string, error) {
	text, version, err := cluster.ReadNote(ctx, note)
	if err != nil || text == "" {
		return watchdog.Memory{}, version, err
	}
	memory, err := watchdog.Decode([]byte(text))
	return memory, version, err
}

// AgentBundle is the one bundle that may touch the agent itself, and of it nothing but its Deployment.
type AgentBundle struct {
	Name    bundle.Name    // empty: none may
	Account bundle.Account // who it acts as
	// Namespace and Deployment are the agent's.
	Namespace, Deployment string
}

func (a AgentBundle) object() bundle.ObjectID {
	return bundle.ObjectID{Group: "apps", Kind: "Deployment", Namespace: a.Namespace, Name: a.Deployment}
}

// keyUpgrade is where the agent notes what it has begun to become: an upgrade.
const keyUpgrade = "upgrade"

// upgrade is an apply of the agent's own bundle that was begun.
type upgrade struct {
	Spec  string `json:"spec"`
	Backs uint64 `json:"backs"` // how often the watchdog had gone back before
}

// takenBack is an upgrade that the watchdog ended.
type takenBack struct{ why string }

func (t *takenBack) Error() string { return "the watchdog put the agent before back: " + t.why }

// begin notes that the agent begins to become what run says, or says that it was that already and the watchdog took it back.
func (w *KubeWorkloads) begin(ctx context.Context, run fleetsync.Run) error {
	memory, err := w.watchdog(ctx)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	var begun upgrade
	switch raw, err := w.store.Get(keyUpgrade); {
	case errors.Is(err, fleetsync.ErrNotFound):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(raw, &begun); err != nil {
			return fmt.Errorf("stored upgrade: %w", err)
		}
	}
	if begun.Spec == run.Spec {
		if memory.Backs <= begun.Backs || len(memory.Refused) == 0 {
			return nil
		}
		// A new order of the same version may try again.
		return errors.Join(&takenBack{memory.Refused[len(memory.Refused)-1].Why}, w.store.Commit(fleetsync.Record{Key: keyUpgrade}))
	}
	raw, err := json.Marshal(upgrade{run.Spec, memory.Backs})
	if err != nil {
		return err
	}
	return w.store.Commit(fleetsync.Record{Key: keyUpgrade, Value: raw})
}
