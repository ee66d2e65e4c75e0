// Package bundle is the format of what Holdfast ships: a small signed manifest and the Kubernetes objects it commits to.
// It is pure: no I/O, no clock, only the standard library. It believes nothing and decides nothing about trust; that is pkg/verify.
//
// # Parts
//
// A bundle is a manifest and a content. The manifest's exact bytes are what is signed, and their SHA-256 identifies the bundle.
// The manifest commits to the content by digest, size and number of objects, so the one signature covers everything. A file carries both and
// any number of signatures; on the wire they travel apart, the content in chunks of ChunkSize bytes.
//
// # Canonical JSON
//
// Manifest and content are written in canonical JSON, in which every value has exactly one spelling:
//
//   - no space between tokens; UTF-8; no byte order mark;
//   - keys in ascending order of their UTF-8 bytes, each once;
//   - strings escape only the quote, the backslash and the characters below U+0020: with \b \f \n \r \t where these exist, else with \u00xx in
//     lower-case hex;
//   - a number that is whole and fits in 64 signed bits is written as an integer (1.0 and 1e0 are 1, -0.0 is 0); every other is the shortest decimal that
//     reads back as the same float64, with an exponent if it is below 1e-6 or at least 1e21, as ECMAScript writes it;
//   - at most MaxDepth levels of arrays and objects.
//
// # Manifest
//
// The fields are those of Manifest. Optional fields that are empty are left out; times are RFC 3339 in UTC with whole seconds. A manifest has at
// most MaxManifestSize bytes and no newline at its end. Manifest.Check states what the values must be.
//
// # Content
//
// Content is one object a line: the object in canonical JSON and "\n". The lines are sorted by CompareIDs: by stage (see Stage), group, kind,
// namespace and name; no two have the same identity, whatever their API versions. Every object has apiVersion, kind and
// metadata.name; lists are not objects, and generateName is refused. Neither status nor comments nor file names are kept.
// Limits: MaxContentSize bytes, MaxObjects objects, MaxObjectSize bytes each.
//
// # File
//
//	"holdfast bundle 1\n"
//	length (4 bytes, big endian) and manifest
//	number of signatures (4 bytes, big endian), then for each: length (4 bytes, big endian) and Sigstore bundle, JSON
//	length (4 bytes, big endian) and content, compressed as pkg/bundle/wire says
//
// Nothing stands between the parts or after the last. There are no paths and no archives.
//
// # Differences between sites
//
// A string in content or in a patch may hold references to parameters, written exactly "${{ params.NAME }}". Variants are patches for the sites whose
// labels match. pkg/bundle/render puts them together, after verification, at the site or at the desk, with the same result.
//
// # Drift
//
// A policy says what a site does about objects that are not as they were applied: for the bundle (drift) and for single objects (driftRules, by
// target, the first that matches; an annotation would be a second way to say it, and one that patches and charts change by accident).
//
//   - enforce: it is put back and reported.
//   - report: it is reported.
//   - respect: a field that others changed since it was applied stays theirs and is reported, also while later versions are applied that do not
//     change it themselves. A version that does change it has it. What was deleted is made again. Of an object with more than 512 fields, any change of
//     ours makes all fields ours. What a Secret says in stringData is put back: in data it is respected.
//
// Fields named in ignore, and what the field managers in ignoreManagers hold, are none of that: neither drift nor corrected nor told. What is reported are
// paths and the names of managers. No values, and no hashes of them either: a short password can be guessed from its hash.
//
// # Health
//
// A bundle is healthy when all its objects are: by Kubernetes' conventions (kstatus; of custom resources the Ready condition and the observed generation),
// or, where a rule of the policy's health matches, by CEL expressions over the object (pkg/bundle/gate), compiled when the bundle is built and bounded
// in cost when they are evaluated. A probe is a GET to a Service that is an object of the bundle, through the API server's proxy and as the bundle's account, which
// needs get on services/proxy: a probe holds no address, follows no redirect, keeps nothing of the answer but its status, and reaches what the API server lets it reach –
// neither loopback nor link-local addresses. A probe may also name the pods of a workload of the bundle by labels: a GET goes to each of them through the API server's
// proxy (get on pods/proxy, list on pods), and without a path the agent itself connects to each (list on pods), unless a pod is on its node's network or its address is one
// that no pod has: loopback, link-local, multicast, or where clouds keep their metadata.
//
// # Loss
//
// A version that would delete more than maxDeletePercent of what the bundle owns at a site, or a namespace or definition that holds objects of others, or that stops
// every workload, is not applied: the site halts and says why, until another order comes. One that accepts the loss (holdfast assign --accept-loss) is
// carried out. Nothing lets a bundle drop a namespace that it still has objects in.
//
// # Prefetch
//
// With prefetch a site has each node pull the images that pod templates name, init containers' too, once the version is accepted: also before a window opens. It makes a
// DaemonSet in a namespace that holds nothing else (internal/apply.PrefetchNamespace), whose containers name the images and a command that no image has: the node
// finds that out after pulling and runs nothing. Nodes are those that the pods' node selectors and tolerations name, one DaemonSet for each such
// kind of node. The pull secrets that pod templates name are copied there for as long as it takes: out of the bundle, or read as the bundle's account; those of a service account
// are not seen. On failure the site holds and tries again, or proceeds.
//
// # Guarantees
//
//   - B1 One manifest, one spelling: DecodeManifest accepts exactly the bytes that EncodeManifest writes.
//   - B2 One content, one spelling: DecodeContent accepts exactly the bytes that EncodeContent writes for some objects, and only those that
//     the manifest commits to.
//   - B3 What DecodeContent returns has an identity that any JSON reader would read in the same way.
//   - B4 Decoding takes time and memory in proportion to its input, whose size is limited before it is read.
//   - B5 Encoding depends on nothing but its arguments: not on the machine, the order of input or the time.
//
// # Layout
//
// pkg/bundle/build makes bundles from YAML and kustomizations, pkg/bundle/render makes a site's objects of a bundle, and pkg/bundle/wire
// compresses content and computes deltas.
package bundle
