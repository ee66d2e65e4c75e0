package main

// mutant is one deliberate bug: a small edit of one file, and the test that must notice it.
type mutant struct {
	name     string // what the bug is
	file     string // from the root of the repository
	old, new string // old stands in the file exactly once
	pkg, run string // package and -run pattern of the test that must fail
}

// ledger is the bugs that would hurt most. Each is one that a hurried hand could make.
var ledger = []mutant{
	// What a site may take.
	{"an assignment for another site is taken", "pkg/sync/edge.go", "case a.Site != e.cfg.Site:", `case a.Site == "":`, "pkg/sync", "TestEdgeTranscripts"},
	{"an older assignment is taken", "pkg/sync/edge.go", "case e.assignment != nil && a.Sequence < e.assignment.Sequence:", "case a.Sequence == 0:", "pkg/sync", "TestEdgeTranscripts"},
	{"a sequence that comes twice is taken for delivered", "pkg/sync/edge.go", "if sameOrders(a, *e.assignment) {", "if sameOrders(a, a) {", "pkg/sync", "TestEdgeTranscripts"},
	{"the signature of what the hub says is not checked", "pkg/sync/envelope.go", "!ed25519.Verify(key, signedBytes(envelope.Type, envelope.Payload), envelope.Signature)", "len(envelope.Signature) == 0", "pkg/sync", "Envelope"},
	{"what a report unpacks to is not bounded", "pkg/sync/packed.go", "MaxUnpacked+1))", "1<<40))", "pkg/sync", "TestT28_Packed"},
	{"the signature does not cover the type of a message", "pkg/sync/envelope.go", `"holdfast.dev\n"+messageType+"\n"`, `"holdfast.dev\n"`, "pkg/sync", "Envelope"},
	{"the counter is not checked", "pkg/sync/progress.go", "if ok && got.Older(mark) && !h.before(in.Digest) {", "if ok && got.Counter == 0 && !h.before(in.Digest) {", "pkg/sync", "TestEdgeTranscripts"},
	{"the last good version is ordered back behind a healthy newer one", "pkg/sync/progress.go", "digest != e.marks[name].Digest && !h.before(digest) {", `digest == "" {`, "pkg/sync", "TestEdgeTranscripts"},
	{"somebody else's note is believed", "pkg/sync/note.go", "	case !ours:\n", "	case !ours && len(in.MAC) == 0:\n", "pkg/sync", "TestEdgeTranscripts"},
	{"what an old image of the disk had applied is put back", "pkg/sync/note.go", `h.Intent, h.Applied, h.Good, h.Confirm, h.Current, h.CurrentDigest = nil, nil, nil, nil, "", ""`, "h.Confirm = nil", "pkg/sync", "TestEdgeTranscripts"},
	{"something begins before the note was read", "pkg/sync/progress.go", "	if e.note.awaited { //", "	if e.note.awaited && e.cfg.NoteKey == nil { //", "pkg/sync", "TestEdgeTranscripts"},
	{"a new release is taken under an older root of trust", "pkg/sync/note.go", "return e.note.last.trustAbove(e.trust.Root, e.trust.Targets)", "return e.note.last.trustAbove(e.trust.Root+1, e.trust.Targets)", "pkg/sync", "TestEdgeTranscripts"},
	{"a store that takes no writes takes orders", "pkg/sync/edge.go", `in.Assignment != nil && e.store.why == "" && fresh(`, "in.Assignment != nil && fresh(", "pkg/sync", "TestEdgeTranscripts"},

	// What a site does.
	{"an apply begins without an intent", "pkg/sync/progress.go", "	h.Intent = h.Want\n", "", "internal/sim", "TestF20_"},
	{"a quarantined order is tried again", "pkg/sync/progress.go", "due := !h.refused && h.Quarantined != h.Want.Spec && ", "due := !h.refused && ", "pkg/sync", "TestEdgeTranscripts"},
	{"a revert has no intent", "pkg/sync/progress.go", "h.Quarantined, h.Intent, h.Confirm = h.Want.Spec, h.Good, nil", "h.Quarantined, h.Confirm = h.Want.Spec, nil", "pkg/sync", "TestEdgeTranscripts"},
	{"what was in force is not watched after a restart", "pkg/sync/progress.go", `old != nil && (h.watched == "" || h.Phase == PhaseReverting)`, "old != nil && h.Phase == PhaseReverting", "pkg/sync", "TestEdgeTranscripts"},
	{"an effect is carried out before its record is durable", "internal/edge/agent.go", "		waiting = append(waiting, effects)\n", "		a.carryOut(ctx, effects)\n", "internal/edge", "TestF03_NothingBeforeItsRecord"},

	// What a site judges by itself.
	{"something begins after its lease", "pkg/sync/hold.go", "		case !at.Before(b.ApplyBy):\n", "		case at.IsZero():\n", "internal/sim", "TestP03_SitesJudge"},
	{"a lease is believed before anybody told the time", "pkg/sync/hold.go", "case untrusted && e.cfg.FirstApply != FirstApplyUntilProvenExpired:", "case untrusted && e.cfg.FirstApply == FirstApplyDeny:", "internal/sim", "TestP03_SitesJudge"},
	{"windows are believed before anybody told the time", "pkg/sync/hold.go", "	if untrusted {\n", "	if untrusted && at.IsZero() {\n", "internal/sim", "TestP03_SitesJudge"},
	{"the wall clock tells the time", "pkg/sync/clock.go", "	return !c.proven.IsZero() || c.boot.ID != \"\" && c.Boot == c.boot.ID", "	return !c.proven.IsZero() || c.boot.ID != \"\"", "internal/sim", "TestP03_SitesJudge"},
	{"a site that may begin nothing without a link does", "pkg/sync/hold.go", "e.cfg.FirstApply == FirstApplyDeny && quality != TimeTrusted", "e.cfg.FirstApply == FirstApplyDeny && untrusted", "internal/sim", "TestP03_SitesJudge"},
	{"windows are read in UTC", "pkg/sync/schedule.go", "	local := now.In(zone)\n", "	zone = time.UTC\n	local := now.In(zone)\n", "internal/sim", "TestP03_SitesJudge"},
	{"a blackout is not looked at", "pkg/sync/schedule.go", "	for _, b := range s.Blackouts {\n		if end :=", "	for _, b := range s.Blackouts[:0] {\n		if end :=", "internal/sim", "TestP03_SitesJudge"},
	{"a site is moved while it is busy", "pkg/sync/hold.go", "	return e.busyHold(now)\n", "	return hold{}\n", "internal/sim", "TestP03_SitesJudge"},
	{"a busy signal ends with the agent", "pkg/sync/records.go", "		case r.Key == keyBusy:\n			err = json.Unmarshal(r.Value, &e.busy)\n", "", "internal/sim", "TestP03_SitesJudge"},
	{"a lapsed lease stops corrections", "pkg/sync/progress.go", "	if !in.Left {\n", "	if !in.Left && (h.Want == nil || e.hold(now, h).reason != ReasonLeaseLapsed) {\n", "internal/sim", "TestP03_SitesJudge"},
	{"an override is fought", "pkg/sync/progress.go", "is && !in.Left {", "is && in.Left {", "internal/sim", "TestP03_SitesJudge"},
	{"what an override let stand is never put right", "pkg/sync/busy.go", "differs && h.overridden[object] {", "differs && h.overridden[d.Message] {", "internal/sim", "TestP03_SitesJudge"},
	{"an apply that is not confirmed stands", "pkg/sync/confirm.go", "	if left := e.clock.left(now, *h.Confirm); left > 0 {", "	if left := e.clock.left(now, *h.Confirm); left > -time.Hour {", "internal/sim", "TestP03_SitesJudge"},
	{"an unconfirmed apply counts as good", "pkg/sync/progress.go", " && h.Applied.Confirm == 0 &&", " &&", "pkg/sync", "TestEdgeTranscripts"},
	{"a halted plan is tried again", "pkg/sync/orders.go", "	h.Quarantined = h.Want.Spec\n", "", "internal/sim", "TestP03_SitesJudge"},
	{"a loss is accepted that no order accepts", "pkg/sync/progress.go", "	if begun { // nothing new to record", "	out.Run.Bundle.AcceptLoss = true\n	if begun { // nothing new to record", "internal/sim", "TestP03_SitesJudge"},
	{"a way back is halted", "pkg/sync/progress.go", "			back.AcceptLoss = back.AcceptLoss || ", "			_ = back.AcceptLoss || ", "internal/sim", "TestP03_SitesJudge"},
	{"the rest of a rejected apply is forgotten", "pkg/sync/records.go", "	if h.Intent != nil && h.Intent.Begun && (h.Applied", "	if h.Intent != nil && h.Intent.Spec == \"\" && (h.Applied", "pkg/sync", "TestEdgeTranscripts"},
	{"a copy of a disk goes on in its epoch", "pkg/sync/outbox.go", "	if ack.Upto >= e.outbox.Next {", "	if ack.Upto >= MaxSequence {", "internal/sim", "TestT19_"},
	{"the hub does not tell that two copies are alive", "pkg/sync/clones.go", "if epoch.last.After(later.first) &&", "if later.first.IsZero() &&", "internal/sim", "TestT19_"},

	// What is told.
	{"an event is forgotten before it is acknowledged", "pkg/sync/outbox.go", "beyond, size := o.at(o.Acked+1), 0", "beyond, size := len(o.entries), tailBytes", "internal/sim", "TestF02_"},
	{"events are dropped without a gap record", "pkg/sync/outbox.go", "		records = append(records, r)\n		o.insert(o.at(gap.Sequence), gap, r)\n", "		o.insert(o.at(gap.Sequence), gap, r)\n", "internal/sim", "TestF14_"},
	{"security events are dropped like others", "pkg/sync/classes.go", "EventRefused:        classKept,", "EventRefused:        classDebug,", "internal/sim", "TestF14_"},
	{"a doubled event counts twice", "pkg/sync/ingest.go", "		case known:\n", "		case known && event.Sequence == 0:\n", "pkg/sync", "TestF15_|TestIngest|Counts|I1"},
	{"the acknowledgement goes over a hole", "pkg/sync/ranges.go", "	return rs[0].To\n", "	return rs[len(rs)-1].To\n", "pkg/sync", "Ingest|Ack|Hole|Gap|TestF1"},
	{"an older snapshot wins", "pkg/sync/ingest.go", "return state.Sequence > in.state.Sequence", "return state.Sequence > 0", "pkg/sync", "Ingest|State|Snapshot|Order"},

	// What is believed.
	{"the content's digest is not compared", "pkg/verify/content.go", "digest != info.Digest {", `digest == "" {`, "pkg/verify", "T[0-9]+"},
	{"an older counter passes", "pkg/verify/counters.go", "	case counter < mark.Counter:\n", "	case counter == 0:\n", "pkg/verify", "T[0-9]+|Counters"},
	{"merged counters take the lower", "pkg/verify/counters.go", "if !seen || have.Older(mark) || !mark.Older(have) && mark.Digest < have.Digest {", "if !seen || mark.Older(have) {", "pkg/verify", "T[0-9]+|Counters|Merge"},
	{"a revoked key signs", "pkg/verify/manifest.go", "		if !signer.revoked {\n", "		if signer.id != \"\" {\n", "pkg/verify", "T[0-9]+|Revoked|Signers"},
	{"a key signs names that are not its own", "pkg/verify/manifest.go", "		if signer.may(m.Name) {\n", "		if signer.id != \"\" {\n", "pkg/verify", "T[0-9]+|Trust"},
	{"one signer is enough for every threshold", "pkg/verify/manifest.go", "if signers := count(valid); signers < s.threshold {", "if signers := count(valid); signers < 1 {", "pkg/verify", "T[0-9]+|Threshold|Signers"},
	{"a security floor is not looked at", "pkg/verify/manifest.go", "s.manifest.Counter < floor {", "floor == 1<<62 {", "pkg/verify", "T[0-9]+|Floor"},
	{"an expired release is taken for the first time", "pkg/verify/manifest.go", "expires != nil && !now.Before(*expires) {", "expires != nil && now.IsZero() {", "pkg/verify", "T[0-9]+|Expir"},
	{"counters beside the store can be lowered", "pkg/verify/anchor/anchor.go", "a.Counters = verify.Merge(last.Counters, a.Counters)", "_ = verify.Merge(last.Counters, a.Counters)", "pkg/verify/anchor", "."},

	// How a fleet is moved.
	{"silence is success", "internal/rollout/dark.go", "s.Outcome, s.Was, s.Dark = Unknown, s.Outcome, now", "s.Outcome, s.Was, s.Dark = Succeeded, s.Outcome, now", "internal/rollout", "TestR01_|TestR1_|TestP05_|TestRollout"},
	{"an abort is forgotten by a late report", "internal/rollout/evidence.go", "	if r.Phase == Aborted {\n", "	if r.Phase == Completed {\n", "internal/rollout", "TestR07_|TestP05_"},
	{"there is no grace after a start", "internal/rollout/decide.go", "case r.Active() && now.Before(r.Grace):", "case r.Active() && now.IsZero():", "internal/rollout", "TestR19_"},
	{"evidence of another attempt counts", "internal/rollout/evidence.go", "	case e.Attempt != s.Attempt:\n", "	case e.Attempt == 0:\n", "internal/rollout", "TestR08_|TestP05_"},
	{"a deadline does not stop", "internal/rollout/gate.go", "		if !now.Before(limit) {\n", "		if limit.IsZero() {\n", "internal/rollout", "TestR04_"},
	{"the budget is not looked at", "internal/rollout/offer.go", "full := x.tallies[w].Unavailable >= wave.MaxUnavailable", "full := wave.MaxUnavailable < 0", "internal/rollout", "TestR10_|TestP05_"},
	{"a window is not looked at", "internal/rollout/offer.go", "	if schedule.Empty() {\n", "	if schedule.Empty() || w >= 0 {\n", "internal/rollout", "TestR17_"},
	{"who starts a rollout approves it", "internal/rollout/act.go", "	case by.Name == r.By:\n", "	case by.Name == \"\" && r.By == \"\":\n", "internal/rollout", "TestR20_"},
	{"a leader that was replaced still acts", "internal/rollout/act.go", "	if token < r.Fence {\n", "	if token == 0 {\n", "internal/rollout", "Lead|TestF09|TestF24|TestR19_|Fence"},

	// What is on the disk.
	{"writes are acknowledged before they are on the disk", "internal/store/store.go", "WithSyncWrites(true)", "WithSyncWrites(false)", "internal/store", "TestF04_"},
}
