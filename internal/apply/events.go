package apply

import (
	"slices"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Event is something a Watcher has to tell: DriftSeen, Corrected, HealthSeen or ClusterSeen.
type Event interface{ event() }

// Drift is how one object differs from what was applied: paths and names, never values.
type Drift struct {
	Object   bundle.ObjectID
	Deleted  bool
	Paths    []string // JSON pointers, at most MaxPaths
	Managers []string // who holds those fields
	Left     bool     // the policy leaves it so: it is only told
	At       time.Time
	Message  string // why nothing more is known, or why it is left so
}

func (d Drift) same(o Drift) bool {
	return d.Deleted == o.Deleted && slices.Equal(d.Paths, o.Paths) && slices.Equal(d.Managers, o.Managers) && d.Left == o.Left && d.Message == o.Message
}

// DriftSeen says that an object differs, or with Gone that it no longer does without our doing. Equal drift is told once.
type DriftSeen struct {
	Bundle bundle.Name
	Drift  Drift
	Gone   bool
}

// Corrected is the answer to Correct. With an Err the drift stays and is tried again by growing pauses.
type Corrected struct {
	Bundle bundle.Name
	Drift  Drift
	Err    error
	// Item is how the object was left.
	Item Item
}

// HealthSeen is the health of all objects of a bundle, told when it is first known and whenever it changes.
type HealthSeen struct {
	Bundle    bundle.Name
	Rendered  bundle.Digest  // Desired.Rendered of what is watched
	Unhealthy []ObjectHealth // in apply order
}

// ObjectHealth is an object that is not healthy.
type ObjectHealth struct {
	Object bundle.ObjectID
	Verdict
}

// ClusterSeen says whether the API server answers.
type ClusterSeen struct {
	Reachable bool
	Version   string
	Message   string // why it does not
}

func (DriftSeen) event()   {}
func (Corrected) event()   {}
func (HealthSeen) event()  {}
func (ClusterSeen) event() {}
