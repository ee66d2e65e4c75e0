package edge

import (
	"context"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/kube"
	"github.com/holdfast-fleet/holdfast/internal/store"
	"github.com/holdfast-fleet/holdfast/internal/watchdog"
)

// An agent from before encryption opens no encrypted store. So a store in the clear is encrypted only once the watchdog cannot put such an agent
// back any more: at the start where no watchdog has anything to put back, else when its trial of this agent is over.

// trialLeast is how long an agent has run before its trial can be over. It is more than a watchdog takes to see a new agent and to judge it.
const trialLeast = 30 * time.Minute

// onTrial says whether an agent that opens no encrypted store may come back. A cluster that does not answer may have one that does.
func (c Config) onTrial(ctx context.Context) bool {
	dir := c.keyed().store()
	if _, err := os.Stat(dir); err != nil || store.Encrypted(dir) || c.Policy.Agent.Name == "" {
		return false
	}
	memory, err := c.watched(ctx)
	if err != nil {
		c.Log.Warn("whether the watchdog may put another agent back is not known", zap.Error(err))
	}
	return err != nil || memory.Good != nil
}

// trialOver waits until the watchdog has judged this agent; false: ctx ended.
func (c Config) trialOver(ctx context.Context) bool {
	wait := time.NewTimer(c.trial)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-wait.C:
		}
		if memory, err := c.watched(ctx); err == nil && memory.Trial == nil {
			return true
		}
		wait.Reset(c.trial / 30)
	}
}

// readWatchdog is what the site's watchdog knows.
func (c Config) readWatchdog(ctx context.Context) (watchdog.Memory, error) {
	conn, err := kube.Connect(c.Cluster)
	if err != nil {
		return watchdog.Memory{}, err
	}
	memory, _, err := readMemory(ctx, conn, watchdogNote(c.Policy.Agent.Namespace))
	return memory, err
}
