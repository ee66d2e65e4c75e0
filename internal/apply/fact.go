package apply

import (
	"crypto/sha256"
	"encoding/base64"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
)

// Fact is the little that is remembered of a live object.
type Fact struct {
	UID             string
	ResourceVersion string
	Generation      int64
	Print           string
	Deleting        bool
}

// Facts are what the watches know now. An object of a known kind without a fact does not exist (or lost its label).
type Facts struct {
	Known   map[Place]bool
	Objects map[bundle.ObjectID]Fact
}

// Place is where a watch looks: a kind in one namespace, or in all of them and outside of any where Namespace is empty.
type Place struct {
	Kind
	Namespace string
}

// know says that a watch looks at an object's place.
func (f Facts) know(ref Ref) bool {
	return f.Known[Place{Kind: ref.Type()}] || f.Known[Place{ref.Type(), ref.Namespace}]
}

func factOf(s Seen) Fact {
	return Fact{s.UID, s.ResourceVersion, s.Generation, printOf(s), s.Deleting}
}

// printOf names the labels and annotations of an object. The deployment controller's own annotations are left out because they
// change without anybody's doing.
func printOf(s Seen) string {
	h := sha256.New()
	write := func(tag string, m map[string]string) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if strings.HasPrefix(k, "deployment.kubernetes.io/") || strings.HasPrefix(k, "deprecated.daemonset.template.") {
				continue
			}
			h.Write([]byte(tag + strconv.Quote(k) + strconv.Quote(m[k])))
		}
	}
	write("l", s.Labels)
	write("a", s.Annotations)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:9])
}

// Suspicion is what a fact lets one think of an item.
type Suspicion int

// The suspicions.
const (
	Unsuspicious Suspicion = iota
	Gone                   // the object is not there, or not labelled as ours
	Altered                // somebody wrote to it, which need not be drift
)

// Suspect compares how an object was left with what is there now. ok is false where there is no fact for it.
func Suspect(item Item, fact Fact, ok bool) Suspicion {
	switch {
	case !ok:
		return Gone
	case fact.UID != item.UID:
		return Altered
	case older(fact.ResourceVersion, item.ResourceVersion):
		return Unsuspicious // the watch is behind our own write
	case fact.Print != item.Print:
		return Altered
	case item.Generation != 0 || fact.Generation != 0:
		if fact.Generation != item.Generation {
			return Altered
		}
	case fact.ResourceVersion != item.ResourceVersion:
		return Altered
	}
	return Unsuspicious
}

// suspect is Suspect for an object that may have left by itself.
func (o *Object) suspect(item Item, fact Fact, ok bool) Suspicion {
	if !ok && o.leaves && item.UID != "" {
		return Unsuspicious
	}
	return Suspect(item, fact, ok)
}

// older says that resource version a was written before b. Since Kubernetes 1.35 they are integers that only grow; where
// they are not, nothing is older.
func older(a, b string) bool {
	x, errA := strconv.ParseUint(a, 10, 64)
	y, errB := strconv.ParseUint(b, 10, 64)
	return errA == nil && errB == nil && x < y
}
