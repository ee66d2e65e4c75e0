// Package apply brings a cluster to what a verified bundle says and keeps it there.
//
// # Model
//
// Prepare makes a Desired of a verify.Verified: rendered for the site, each object labelled with Label, hashed and given its stage. The
// Inventory says what the bundle owns at the site and how each object was left. Facts are the little that metadata watches know of live objects.
// Decide, which is pure, compares the three and gives a Plan; an Executor carries it out over the Cluster port; a Watcher looks for
// what differs from then on.
//
//	desired, err := apply.Prepare(verified, inputs, scope)
//	watcher.Hold(name)
//	result, err := executor.Apply(ctx, apply.Request{Desired: desired, Inventory: recorded, Facts: watcher.Facts(scope.Account), Persist: store})
//	// record result.Inventory, whatever err says
//	watcher.Track(desired, result.Inventory)
//
// # Order of an apply
//
//  0. Prepare holds every object against the Scope: one outside, and there is no Desired, and nothing was asked of the cluster.
//  1. Plan. A suspicious plan (safety.go) halts here, unless the order accepts the loss.
//  2. Dry-run every object that will change and collect every refusal. What cannot be dry-run yet – custom resources whose definition the
//     bundle brings or changes, objects in namespaces that it brings – waits for step 4.
//  3. Persist records old ∪ new: everything that is owned and everything that may come to be, with the hashes of what is about to change
//     cleared. A crash from here on repeats the apply; it loses nothing and skips nothing.
//  4. Definitions and namespaces, if something waits for them; then its dry runs. If one is refused, the definitions and namespaces that this
//     apply made are removed again. Definitions that existed and were changed stay changed until the caller reverts.
//  5. The stages in order, each in parallel. A refusal ends the apply after its stage.
//  6. What left the inventory is deleted, last stage first, and waited for.
//
// # Guarantees
//
//	A1  Only verified content is applied, and the bytes that are sent are compared with their hash each time (P1).
//	A2  An object that is recorded as applied and that no fact speaks against costs no request; one that is new or changed costs two.
//	A3  Fields of other managers are taken over only on objects that are ours: in the inventory, or carrying our label. The first apply of
//	    an object that exists is never forced; a conflict names the other manager. Each bundle is a manager of its own.
//	A4  Nothing is deleted that carries another bundle's label, or no label and another UID; no namespace or definition that holds
//	    objects of others or that existed before the bundle; never kube-system and its like. Kept objects are named in the outcomes.
//	A5  Nothing is deleted to be made anew but kinds that the policy lists, when the server calls their change immutable.
//	A6  Passing failures are retried at most 8 times with growing, scattered pauses, Retry-After obeyed. Nothing else is.
//	A7  Suspicion comes from facts, drift only from comparing with a dry run: neither defaults nor mutating webhooks are drift.
//	A8  Drift names paths and managers, never values; nor do refusals of Secrets and ConfigMaps (T16).
//	A9  Corrections that are undone again and again, and comparisons that find nothing again and again, are spread by growing pauses (F21).
//	A10 Every request about a bundle's objects, watches included, is made as the Scope's account, where it names one; as another account
//	    everything is applied again, so that it shows that it may (T15). The inventory keeps who applied, which is who may remove.
//	A11 Nothing in a protected namespace is applied, corrected or deleted, nor is the namespace itself.
//	A12 What may not be watched is not called healthy.
//	A14 Health is Kubernetes' conventions or the policy's expressions and probes, which reach nothing but the bundle's own objects and tell no values (T16, T29).
//	A13 On objects that are respected, fields that others changed stay theirs until a version changes those itself: the Base that the inventory keeps
//	    says what was applied before. It costs two requests more for each dry run, apply and correction, as fields of ignored managers do.
//
// # Files
//
// The pure part: desired.go and scan.go (what is wanted), base.go (what was, for what is respected), scope.go (what may be), inventory.go, fact.go, plan.go, safety.go, fight.go, health.go (pacing). The shell:
// executor.go, preflight.go, prune.go, retry.go, watcher.go, subject.go. The port: cluster.go.
package apply
