package apply

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"github.com/holdfast-fleet/holdfast/pkg/bundle/gate"
)

// Label is the label that every object of a bundle carries; its value is the bundle's name. Watches select by it, and nothing
// without it (or with another bundle's name) is ever deleted.
const Label = "holdfast.dev/bundle"

// Owner is the field manager of a bundle. Each bundle has its own, so that two bundles that claim the same field of the same
// object meet as a conflict at the API server instead of taking turns.
func Owner(name bundle.Name) string { return "holdfast/" + string(name) }

// Kind is an API type as the API server addresses it.
type Kind struct {
	Group   string
	Version string
	Kind    string
}

// Ref is the address of an object: its identity and the API version to speak of it in.
type Ref struct {
	bundle.ObjectID
	Version string
}

// Type is the API type of the object.
func (r Ref) Type() Kind { return Kind{r.Group, r.Version, r.Kind} }

// Patch is one server-side apply.
type Patch struct {
	Ref
	Body    []byte   // JSON, sent as it is unless Ignore holds paths
	Manager string   // field manager
	DryRun  bool     // the server validates and answers, and stores nothing
	Force   bool     // take over fields that other managers hold; without it they are a Conflict
	Ignore  []string // JSON pointers: fields whose live values stay where the object exists
	// Yield are field managers: what they hold stays as they have it.
	Yield []string
	// Base, where it is not empty, says what is respected: fields that are wanted as it has them stay as others have made them since.
	Base Base
}

// Seen is what the API server says of an object, without its body.
type Seen struct {
	bundle.ObjectID
	UID             string
	ResourceVersion string // empty in the answer to a dry run that would create the object
	Generation      int64  // 0 for kinds that count none
	Labels          map[string]string
	Annotations     map[string]string
	Deleting        bool // a deletion waits for finalizers or a grace period
	Left            bool // by Apply: fields were left to others by the patch's Base
	Verdict              // filled by Look with ViewStatus only
}

// Status is kstatus' word for how an object does.
type Status string

// The statuses. Current is healthy.
const (
	StatusCurrent     Status = "Current"
	StatusInProgress  Status = "InProgress"
	StatusFailed      Status = "Failed"
	StatusTerminating Status = "Terminating"
	StatusNotFound    Status = "NotFound"
	StatusUnknown     Status = "Unknown"
)

// Verdict is the health of one object.
type Verdict struct {
	Status  Status
	Message string
}

// View is how much of an object Look asks for.
type View int

// The views. ViewMetadata is cheap whatever the object's size; ViewStatus also computes the Verdict.
const (
	ViewMetadata View = iota
	ViewStatus
)

// Difference is how a live object differs from what applying would make of it: paths and names, never values.
type Difference struct {
	Missing  bool     // the object does not exist
	Paths    []string // JSON pointers, sorted, at most MaxPaths
	Left     []string // likewise: what differs and stays by the patch's Base; not in Paths
	Managers []string // who holds those fields now, other than Manager; the most recent first
	Seen     Seen     // the live object, where it exists
}

// MaxPaths bounds the paths of one Difference.
const MaxPaths = 20

// None says that there is no difference.
func (d Difference) None() bool { return !d.Missing && len(d.Paths) == 0 && len(d.Left) == 0 }

// SightingKind is what a watch saw.
type SightingKind int

// The sightings.
const (
	SightListed  SightingKind = iota // All is every object of the kind that carries Label: what is not in it is gone
	SightPresent                     // Object is new or changed
	SightGone                        // Object was deleted or no longer carries Label
	SightBroken                      // the watch broke with Err; it mends itself and begins anew with SightListed
)

// Sighting is one word from a watch.
type Sighting struct {
	Kind   SightingKind
	Object Seen
	All    []Seen
	Err    error
}

// Cluster is what this package needs of a Kubernetes cluster. All methods may be called concurrently; their errors are
// *ServerError where the server or the way to it is at fault. internal/kube keeps it over client-go and fluxcd/pkg/ssa,
// memcluster in memory; both run clustertest.
type Cluster interface {
	// As is the same cluster as a service account sees it: every request but the discovery of kinds is made as that account, by
	// impersonation, and is refused where the account, or the agent's leave to be that account, is missing. It asks nothing.
	As(account bundle.Account) Cluster
	// Apply does one server-side apply and answers with the object's metadata. It does not retry.
	Apply(ctx context.Context, patch Patch) (Seen, error)
	// Look gives one object, or an error of class Missing.
	Look(ctx context.Context, ref Ref, view View) (Seen, error)
	// Judge looks at one object and has the gate say how it does, as its Verdict.
	Judge(ctx context.Context, ref Ref, by *gate.Gate) (Seen, error)
	// Probe gives the status of an HTTP GET to a Service's or to each pod's path, sent through the API server: of pods the first that is none of 200 to 399. What is
	// answered otherwise is not looked at. A probe without a path is a connection to each pod, and 200 where all took it.
	Probe(ctx context.Context, probe bundle.Probe) (status int, err error)
	// PullSecret reads what a pull secret holds.
	PullSecret(ctx context.Context, secret PullSecret) (Credentials, error)
	// Pulls says how far the nodes are with the images of a DaemonSet.
	Pulls(ctx context.Context, puller Ref) (Pulls, error)
	// Diff says what a forced apply of the patch would change, leaving Ignore paths out of the comparison. It changes nothing.
	Diff(ctx context.Context, patch Patch) (Difference, error)
	// Delete deletes the object if its UID is still uid, dependents in the background, and says whether it is gone already
	// (otherwise finalizers or a grace period hold it). An object that does not exist is gone. Another UID is class Stale.
	Delete(ctx context.Context, ref Ref, uid string) (gone bool, err error)
	// Foreign names up to ten objects inside a container (a Namespace: what lives in it; a CustomResourceDefinition: its
	// custom resources) that carry another or no bundle label, have no owner and are not made by Kubernetes itself.
	Foreign(ctx context.Context, container Ref, owner bundle.Name) ([]string, error)
	// Watch tells see about the objects of a place that carry Label until ctx ends. Calls of see are serial and see must
	// not block for long. A kind that the server does not know is an empty list.
	Watch(ctx context.Context, place Place, see func(Sighting))
}

// Prober says whether the cluster answers.
type Prober interface {
	// Version is the API server's version without the leading "v"; the error's words say why there is no answer.
	Version(ctx context.Context) (string, error)
}

// Class says what to do about a ServerError.
type Class int

// The classes.
const (
	Permanent   Class = iota // the server refuses this object as it stands
	Passing                  // overload, timeout, no connection: the same request may succeed later
	Conflict                 // other field managers hold fields of the patch and it was not forced
	Stale                    // the object changed in between, or is another one of the same name
	Missing                  // no such object
	NoNamespace              // the object's namespace does not exist
	NoKind                   // the server does not know the kind
	Immutable                // the change touches fields that cannot change
)

func (c Class) String() string {
	names := [...]string{"permanent", "passing", "conflict", "stale", "missing", "no namespace", "no kind", "immutable"}
	if c < 0 || int(c) >= len(names) {
		return fmt.Sprintf("class %d", int(c))
	}
	return names[c]
}

// ServerError is the API server's refusal, or the reason it could not be asked.
type ServerError struct {
	Class Class
	// Code is the HTTP status; 0: no answer.
	Code int
	// Words are the server's own message.
	Words string
	// Fields are JSON paths the server named.
	Fields []string
	// Managers are the field managers of a Conflict.
	Managers []string
	// RetryAfter is the server's wish; 0 means none.
	RetryAfter time.Duration
}

func (e *ServerError) Error() string { return e.Words }

// ClassOf is the class of an error: Passing for one that is no ServerError, which is the connection's.
func ClassOf(err error) Class {
	var s *ServerError
	if errors.As(err, &s) {
		return s.Class
	}
	return Passing
}

// Refusal is one object that the server did not take, in the server's words.
type Refusal struct {
	Object    bundle.ObjectID
	Class     Class
	Words     string
	Managers  []string // of a conflict
	Permanent bool     // trying again without a change is useless
}

func (r Refusal) String() string {
	if r.Class == Conflict && len(r.Managers) > 0 {
		return fmt.Sprintf("%s: fields are held by %s: %s", r.Object, strings.Join(r.Managers, ", "), r.Words)
	}
	if r.Class == Immutable {
		return fmt.Sprintf("%s: %s (policy.replace: [%s] would let it be deleted and made anew)", r.Object, r.Words, policyKind(r.Object))
	}
	return fmt.Sprintf("%s: %s", r.Object, r.Words)
}

func refusalOf(id bundle.ObjectID, err error) Refusal {
	r := Refusal{Object: id, Class: ClassOf(err), Words: err.Error()}
	var s *ServerError
	if errors.As(err, &s) {
		r.Managers = s.Managers
	}
	r.Permanent = r.Class != Passing && r.Class != Stale
	return r
}
