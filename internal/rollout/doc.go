// Package rollout moves a fleet that is never all there to another version, in waves. It is a pure reducer: no clock, no I/O, no goroutine; the
// hub and the desk run the same one.
//
// # The model
//
// A Plan is what an operator wrote. Freeze holds it against a Fleet and says who would be in which wave; Start makes a Rollout of that. A Rollout
// is one value, stored as one JSON document under compare-and-swap. What happens to it is one of
//
//	Observe   what the hub knows of a site now: connected, cordoned, what it runs
//	Fold      a signed word of a site about its offer
//	Decide    time passed, or one of the others: what to do now, and why nothing else
//	Placed, Withdrew, Verdict, RolledBack     an effect of a decision was carried out
//	Approve, Pause, Resume, Abort, Rollback   a person acts; each is refused with the reason where it is not allowed
//	Lead, Restarted, Join, Retire             the hub's own life
//
// Whoever changes a Rollout stores it before carrying anything out. Effects are level-triggered: a hub that dies between storing and doing
// finds them in its next decision; one that loses the compare-and-swap throws its copy and its decision away.
//
//	load → Lead(token) → Restarted, Observe… → { Fold | Observe | act }… → Decide → store (compare-and-swap) → do → Placed… → store
//
// # A site's outcome
//
//	NotOffered → Offered → Accepted → Applying → Succeeded
//	    │           │          │          ├→ Failed → Reverted
//	    │           └─ silent ─┴──────────┴→ Unknown → (speaks again: where it was)
//	    └→ Skipped (offline before the offer, its wave is over) → (returns: NotOffered in the last wave)
//
// The newest word of a site, by (epoch, seq), decides its outcome; order among sites does not matter. A failure that was once decided on is not
// undone by a later recovery: the pause it caused stays until a person resumes.
//
// # A wave
//
//	waiting ─ earlier waves passed, approvals ─→ open ─ quorum ─→ soaking ─ late reports, all offered, outside verdicts ─→ passed
//	                                              └──────────── deadline, failures, a bad verdict ────────────→ the rollout is paused or rolled back
//
// # Guarantees
//
//	R1   Silence is Unknown, never success.
//	R2   A wave passes on successes >= minSuccess, successes/eligible >= ratio and failures <= maxFailures together.
//	R3   Dark while applying is Failed only if at least half of the control still reports: the sites not on the new version that were alive
//	     when it fell silent, of its region if there are any. Else the rollout pauses and blames nobody.
//	R4   A deadline stops, it never passes.
//	R5   The first wave needs max(3, half of it) reports; one named site is enough for itself.
//	R6   Soak runs from the quorum; what counts at its end are late reports, each at least soak after its site's apply.
//	R7   Abort is sticky. A decision on an older revision loses the compare-and-swap; late reports change no outcome.
//	R8   Evidence counts if site, rollout, attempt and digest fit and (epoch, seq) is new. A refused one changes nothing.
//	R9   Waves are frozen. Who joins or returns is in the last wave; a site is in one active rollout per bundle.
//	R10  Unavailable sites stay within the wave's and the region's budget, offers within the hourly rate, silent sites counted.
//	R11  An abort takes every unended offer back; Exposure says who may apply all the same.
//	R12  Offers carry a lease: 24 h in the first wave, 72 h later.
//	R13  A site's own revert is a failure.
//	R14  An apply that cuts the link is not judged before confirmWithin is over.
//	R15  onFailure: rollback orders one; a rollback is a Rollout of its own in which failures stop nothing.
//	R16  A site whose earlier version's outcome is unknown is not offered another, unless it supersedes.
//	R17  Windows and blackouts are checked in the site's zone at the offer and travel with it.
//	R18  An emergency has one canary, short soaks, two approvers.
//	R19  After a hub's start there is a grace without verdicts and offers; a site in conflict is held.
//	R20  Approvals come from approvers, never the starter; an outside verdict that does not come in time is Inconclusive.
//	R21  An agent upgrade is judged by the agent's own version, soaks first, and tolerates a bad site in later waves.
//
// Besides: deciding again on one's own result changes nothing; every hold has a reason; after the first decision, which counts everything, a
// decision costs what changed.
//
// What it does not do: verify signatures (Evidence says who signed), fetch, sign, store, know the catalog, or promise that a site with a live
// lease does not apply what was withdrawn.
package rollout
