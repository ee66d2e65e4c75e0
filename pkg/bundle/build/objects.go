package build

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	"go.yaml.in/yaml/v3"
)

// item is one object of the input on its way into content.
type item struct {
	document document
	node     *yaml.Node
	value    map[string]any
	id       bundle.ObjectID
	version  string
}

func (it *item) fail(pointer string, format string, args ...any) *Error {
	e := it.document.fail(find(it.node, pointer).Line, fmt.Errorf(format, args...))
	if it.id.Kind != "" && it.id.Name != "" {
		e.Object = it.id.String()
	}
	return e
}

func located(d document, n *yaml.Node, err error) *Error {
	line := n.Line
	if at := new(lineError); errors.As(err, &at) {
		line = at.line
	}
	return d.fail(line, err)
}

// readItems reads the objects of a source, lists flattened.
func readItems(s Source, f *findings) []*item {
	documents, err := parse(s)
	if err != nil {
		if e := new(Error); errors.As(err, &e) {
			f.refuse(e)
		}
		return nil
	}
	var items []*item
	for _, d := range documents {
		tree, err := value(d.root)
		if err != nil {
			f.refuse(located(d, d.root, err))
			continue
		}
		m, ok := tree.(map[string]any)
		if !ok {
			f.refuse(d.fail(d.root.Line, errors.New("not a Kubernetes object: want a mapping with apiVersion, kind and metadata")))
			continue
		}
		items = flatten(items, &item{document: d, node: d.root, value: m}, 0, f)
	}
	return items
}

// flatten appends an object, or the members of a list.
func flatten(items []*item, it *item, depth int, f *findings) []*item {
	kind, _ := it.value["kind"].(string)
	members, isList := it.value["items"].([]any)
	if !strings.HasSuffix(kind, "List") || !(isList || kind == "List") {
		return append(items, it)
	}
	if depth > 8 {
		f.refuse(it.fail("", "lists in lists in lists"))
		return items
	}
	for i, member := range members {
		node := find(it.node, "/items/"+strconv.Itoa(i))
		m, ok := member.(map[string]any)
		if !ok {
			f.refuse(it.document.fail(node.Line, fmt.Errorf("a member of a %s that is not an object", kind)))
			continue
		}
		if kind != "List" { // members of a typed list may leave their type to it
			inherit(m, "apiVersion", it.value["apiVersion"])
			inherit(m, "kind", strings.TrimSuffix(kind, "List"))
		}
		items = flatten(items, &item{document: it.document, node: node, value: m}, depth+1, f)
	}
	return items
}

func inherit(m map[string]any, key string, v any) {
	if _, has := m[key]; !has && v != nil {
		m[key] = v
	}
}

// identify reads the identity and takes out what only servers set.
func (it *item) identify(f *findings) bool {
	text := func(m map[string]any, key, pointer string) (string, bool) {
		v, has := m[key]
		s, ok := v.(string)
		if has && !ok {
			f.refuse(it.fail(pointer, "%s is not a string: numbers, and words such as yes, no, y and n, need quotes", strings.ReplaceAll(pointer[1:], "/", ".")))
			return "", false
		}
		if strings.Contains(s, bundle.ReferenceMark) {
			f.refuse(it.fail(pointer, "%s refers to a parameter: an object's identity is the same at every site", strings.ReplaceAll(pointer[1:], "/", ".")))
			return "", false
		}
		return s, true
	}
	apiVersion, ok1 := text(it.value, "apiVersion", "/apiVersion")
	kind, ok2 := text(it.value, "kind", "/kind")
	if !ok1 || !ok2 {
		return false
	}
	metadata, ok := it.value["metadata"].(map[string]any)
	if !ok && it.value["metadata"] != nil {
		f.refuse(it.fail("/metadata", "metadata is not a mapping"))
		return false
	}
	name, ok1 := text(metadata, "name", "/metadata/name")
	namespace, ok2 := text(metadata, "namespace", "/metadata/namespace")
	if !ok1 || !ok2 {
		return false
	}
	group, version, grouped := strings.Cut(apiVersion, "/")
	if !grouped {
		group, version = "", apiVersion
	}
	it.id = bundle.ObjectID{Group: group, Kind: kind, Namespace: namespace, Name: name}
	it.version = version
	switch {
	case apiVersion == "" && kind == "":
		f.refuse(it.fail("", "not a Kubernetes object: without apiVersion and kind"))
	case apiVersion == "":
		f.refuse(it.fail("", "without apiVersion"))
	case kind == "":
		f.refuse(it.fail("", "without kind"))
	case metadata["generateName"] != nil:
		f.refuse(it.fail("/metadata/generateName", "metadata.generateName: give the %s a name of its own", kind))
	case name == "":
		f.refuse(it.fail("/metadata", "%s without metadata.name", kind))
	default:
		it.strip(metadata, f)
		return true
	}
	return false
}

// serverFields are set by API servers only.
var serverFields = []string{"creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"}

func (it *item) strip(metadata map[string]any, f *findings) {
	delete(it.value, "status")
	for _, key := range serverFields {
		v, has := metadata[key]
		delete(metadata, key)
		if has && v != nil {
			f.warn(it.fail("/metadata/"+key, "metadata.%s is left out: only servers set it", key))
		}
	}
	if metadata["namespace"] == "" {
		delete(metadata, "namespace")
	}
}

// definedKinds are the kinds that CRDs of the bundle define, and the external ones.
func definedKinds(items []*item, external []ExternalKind, f *findings) map[groupKind]kindInfo {
	kinds := map[groupKind]kindInfo{}
	for _, k := range external {
		kinds[groupKind{k.Group, k.Kind}] = kindInfo{namespaced: k.Namespaced}
	}
	for _, it := range items {
		if it.id.Kind != "CustomResourceDefinition" || it.id.Group != "apiextensions.k8s.io" {
			continue
		}
		spec, _ := it.value["spec"].(map[string]any)
		names, _ := spec["names"].(map[string]any)
		group, _ := spec["group"].(string)
		kind, _ := names["kind"].(string)
		scope, _ := spec["scope"].(string)
		if group == "" || kind == "" || (scope != "Namespaced" && scope != "Cluster") {
			f.refuse(it.fail("/spec", "a definition needs spec.group, spec.names.kind and spec.scope (Namespaced or Cluster)"))
			continue
		}
		kinds[groupKind{group, kind}] = kindInfo{namespaced: scope == "Namespaced", versions: servedVersions(spec)}
	}
	return kinds
}

func servedVersions(spec map[string]any) string {
	var served []string
	versions, _ := spec["versions"].([]any)
	for _, v := range versions {
		v, _ := v.(map[string]any)
		if name, ok := v["name"].(string); ok && v["served"] != false {
			served = append(served, name)
		}
	}
	return strings.Join(served, " ")
}

// place checks the kind and its scope, and gives a namespace where one is missing and given.
func (it *item) place(defined map[groupKind]kindInfo, namespace string, f *findings) {
	key := groupKind{it.id.Group, it.id.Kind}
	kind, isBuiltin := builtin[key]
	if !isBuiltin {
		var known bool
		if kind, known = defined[key]; !known {
			f.refuse(it.fail("/kind", "nobody defines the kind %s of %s: it is not built in, no CRD of the bundle defines it, and %s does not name it under externalKinds",
				it.id.Kind, cmp.Or(it.id.Group, "the core group"), ConfigFile))
			return
		}
		if !kind.serves(it.version) {
			f.refuse(it.fail("/apiVersion", "the CRD of %s does not serve version %s, only %s", it.id.Kind, it.version, kind.versions))
			return
		}
	} else if !kind.serves(it.version) {
		f.warn(it.fail("/apiVersion", "Kubernetes 1.29 to 1.37 is not known to serve %s in version %s, only in %s", it.id.Kind, it.version, kind.versions))
	}
	switch {
	case kind.namespaced && it.id.Namespace == "" && namespace == "":
		f.refuse(it.fail("/metadata", "without metadata.namespace: name it there, or give one for all such objects with --namespace"))
	case kind.namespaced && it.id.Namespace == "":
		it.id.Namespace = namespace
		it.value["metadata"].(map[string]any)["namespace"] = namespace
	case !kind.namespaced && it.id.Namespace != "":
		f.refuse(it.fail("/metadata/namespace", "%s is cluster-scoped and has no namespace", it.id.Kind))
	}
	if namespace != "" {
		it.placeSubjects(namespace)
	}
}

// placeSubjects gives the service accounts that a binding names the namespace that they got themselves.
func (it *item) placeSubjects(namespace string) {
	if it.id.Group != "rbac.authorization.k8s.io" || !strings.HasSuffix(it.id.Kind, "RoleBinding") {
		return
	}
	subjects, _ := it.value["subjects"].([]any)
	for _, s := range subjects {
		if s, ok := s.(map[string]any); ok && s["kind"] == "ServiceAccount" && (s["namespace"] == nil || s["namespace"] == "") {
			s["namespace"] = namespace
		}
	}
}

// object is the item in canonical form.
func (it *item) object() (bundle.Object, error) {
	b, err := bundle.Canonical(it.value)
	if err != nil {
		return bundle.Object{}, err
	}
	return bundle.NewObject(b)
}

// refuseDuplicates names both places of an identity that occurs twice.
func refuseDuplicates(items []*item, f *findings) {
	first := map[bundle.ObjectID]*item{}
	for _, it := range items {
		before, twice := first[it.id]
		if !twice {
			first[it.id] = it
			continue
		}
		place := Error{File: before.document.source, Line: before.node.Line, Document: before.document.number, Err: errors.New("")}
		f.refuse(it.fail("", "stands in the bundle twice, first at %s", strings.TrimSuffix(place.Error(), ": ")))
	}
}

// warnSecret says that a Secret holds its values in plain text.
func (it *item) warnSecret(f *findings) {
	if it.id.Group != "" || it.id.Kind != "Secret" {
		return
	}
	for _, field := range []string{"data", "stringData"} {
		values, _ := it.value[field].(map[string]any)
		keys := make([]string, 0, len(values))
		for key := range values {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			if text, ok := values[key].(string); ok && isPlainSecret(field, text) {
				f.warn(it.fail("/"+field, "a Secret with values in plain text (%s): whoever can read the bundle can read them; use a parameter or an operator for secrets", key))
				return
			}
		}
	}
}

// isPlainSecret says whether a value of a Secret gives something away: an empty value does not, nor does a reference to a parameter.
func isPlainSecret(field, text string) bool {
	if field == "data" {
		decoded, err := base64.StdEncoding.DecodeString(text)
		return err != nil || len(bytes.TrimSpace(decoded)) > 0
	}
	_, whole, err := bundle.References(text)
	return text != "" && !(whole && err == nil)
}
