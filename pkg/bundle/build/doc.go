// Package build makes a bundle's manifest and content of Kubernetes YAML: a directory of files, a kustomization, or what a Helm chart rendered.
//
// # Input
//
// A directory with a kustomization file is built as kustomize builds it, from local files only. Every other directory is read file by file: all *.yaml, *.yml and
// *.json below it, without hidden files and directories, and without following symbolic links. The file holdfast.yaml at the top is not an object but the
// bundle's own configuration (Config). A rendered Helm chart enters through BuildObjects.
//
// YAML is read as kubectl reads it: YAML 1.1 words such as yes and off are booleans, 0644 is octal, merge keys are merged, timestamps stay strings.
// Beyond that it is strict: duplicate keys, tags of one's own, binary values, and aliases that expand to more than an object may hold are errors.
//
// # What becomes of the objects
//
// Lists are flattened. status, metadata.managedFields and what else only the server sets are left out. Where a namespace is given, namespaced objects
// without one get it, and so do service accounts named as subjects of role bindings. Nothing else is changed or defaulted.
//
// # What is refused
//
// Errors name file, line, document and object; up to MaxErrors are reported at once. Refused are: malformed YAML; a missing apiVersion, kind or metadata.name;
// metadata.generateName; the same object twice; a kind that is neither built in nor defined by a CRD of the bundle nor declared as external; a namespaced
// object without a namespace and a cluster-scoped one with one; references to parameters that are not declared, or in an object's identity, or in keys;
// patches that match nothing or do not apply; what is too large. With Strict, warnings are errors, too.
//
// # Guarantees
//
//   - The same input gives the same bytes on every machine, whatever its files' order, names and times.
//   - Nothing is fetched, and no program is run.
package build
