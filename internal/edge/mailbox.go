package edge

import (
	"sync"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// mailbox queues inputs for the loop. Put never blocks, so that the work that keeps the cluster right never waits for the disk or the link.
type mailbox struct {
	mu     sync.Mutex
	inputs []fleetsync.Input
	full   chan struct{}
}

func newMailbox() *mailbox { return &mailbox{full: make(chan struct{}, 1)} }

func (m *mailbox) put(in fleetsync.Input) {
	m.mu.Lock()
	m.inputs = append(m.inputs, in)
	m.mu.Unlock()
	select {
	case m.full <- struct{}{}:
	default:
	}
}

// take empties the mailbox.
func (m *mailbox) take() []fleetsync.Input {
	m.mu.Lock()
	defer m.mu.Unlock()
	inputs := m.inputs
	m.inputs = nil
	return inputs
}
