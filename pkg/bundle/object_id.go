package bundle

import (
	"fmt"
	"strings"
)

// SealedKind is the group and kind of objects that are Secrets sealed for sites (internal/secret). At a site they become Secrets.
const (
	SealedGroup = "holdfast.dev"
	SealedKind  = "SiteSecret"
)

// Opened is the identity that the object has in a cluster: a sealed Secret's is the Secret's.
func (o ObjectID) Opened() (id ObjectID, sealed bool) {
	if o.Group != SealedGroup || o.Kind != SealedKind {
		return o, false
	}
	return ObjectID{Kind: "Secret", Namespace: o.Namespace, Name: o.Name}, true
}

// ParseObjectID reads what ObjectID.String writes.
func ParseObjectID(s string) (ObjectID, error) {
	parts := strings.Split(s, "/")
	var id ObjectID
	switch len(parts) {
	case 2:
		id.Name = parts[1]
	case 3:
		id.Namespace, id.Name = parts[1], parts[2]
	}
	id.Kind, id.Group, _ = strings.Cut(parts[0], ".")
	if id.Kind == "" || id.Name == "" || len(parts) == 3 && id.Namespace == "" {
		return ObjectID{}, fmt.Errorf("object %.120q: want Kind.group/namespace/name, without the parts it has not", s)
	}
	return id, nil
}
