package sync

// class says what becomes of an event when the outbox is full.
type class int

// The classes, in the order in which they are given up. What is kept is never dropped for its class, and a failure not while it is of an order in force.
const (
	classKept    class = iota // security, damage, gaps
	classDebug                // the agent's own coming and going
	classDrift                // routine drift
	classSuccess              // routine success
	classFailure              // the outcome of an order
)

// classes is the class of every kind. A kind that is not in it is kept.
var classes = map[EventKind]class{
	EventStarted:        classDebug,
	EventLinkUp:         classDebug,
	EventLinkDown:       classDebug,
	EventClusterDown:    classDebug,
	EventClusterUp:      classDebug,
	EventAssigned:       classSuccess,
	EventAssignRefused:  classKept,
	EventAccepted:       classSuccess,
	EventRefused:        classKept,
	EventApplying:       classSuccess,
	EventApplied:        classSuccess,
	EventApplyFailed:    classFailure,
	EventHealthy:        classSuccess,
	EventUnhealthy:      classFailure,
	EventReverting:      classFailure,
	EventReverted:       classFailure,
	EventHalted:         classFailure,
	EventPrefetched:     classSuccess,
	EventPrefetchFailed: classFailure,
	EventRemoved:        classSuccess,
	EventDriftCorrected: classDrift,
	EventDriftFound:     classDrift,
	EventDriftGone:      classDrift,
	EventHeld:           classSuccess,
	EventConfirmed:      classSuccess,
	EventBusy:           classSuccess,
	EventBusyEnded:      classSuccess,
	EventOverride:       classKept,
	EventOverrideEnded:  classKept,
	EventOverwritten:    classKept,
	EventStale:          classKept,
	EventTrustChanged:   classKept,
	EventTrustRefused:   classKept,
	EventCopySeen:       classKept,
	EventStoreDamaged:   classKept,
	EventStoreDegraded:  classKept,
	EventStoreRecovered: classKept,
	EventPutBack:        classKept,
	EventNoteBehind:     classKept,
	EventNoteRefused:    classKept,
	EventNoteFailed:     classKept,
	EventGap:            classKept,
}

// Why events were dropped, in the order in which they are.
const (
	LostRepeated = "Repeated" // the same was said again later, and that is kept
	LostDebug    = "Debug"
	LostDrift    = "RoutineDrift"
	LostSuccess  = "RoutineSuccess"
	LostOldOrder = "OldOrder" // a failure of an order that was replaced since
	// LostBetween is the last resort, also for what is kept: the same was said before and after it, and both are kept.
	LostBetween = "RepeatedBetween"
	// LostTail is of what the hub had acknowledged, and asks for again after it is no longer kept.
	LostTail = "NoLongerKept"
)

// dropOrder is what is given up in which order.
var dropOrder = []struct {
	why   string
	drops func(s *Stored, said seen, inForce func(about uint64) bool) bool
}{
	{LostRepeated, func(s *Stored, said seen, _ func(uint64) bool) bool { return s.routine() && s.Sequence < said.last }},
	{LostDebug, func(s *Stored, _ seen, _ func(uint64) bool) bool { return classes[s.Kind] == classDebug }},
	{LostDrift, func(s *Stored, _ seen, _ func(uint64) bool) bool { return classes[s.Kind] == classDrift }},
	{LostSuccess, func(s *Stored, _ seen, _ func(uint64) bool) bool { return classes[s.Kind] == classSuccess }},
	{LostOldOrder, func(s *Stored, _ seen, inForce func(uint64) bool) bool {
		return classes[s.Kind] == classFailure && !inForce(s.about)
	}},
	{LostBetween, func(s *Stored, said seen, _ func(uint64) bool) bool {
		return said.first < s.Sequence && s.Sequence < said.last
	}},
}

// seen is when the same was said first and last, by sequence.
type seen struct{ first, last uint64 }

// routine says whether the event may be dropped for its class alone.
func (s *Stored) routine() bool {
	switch classes[s.Kind] {
	case classDebug, classDrift, classSuccess:
		return true
	}
	return false
}
