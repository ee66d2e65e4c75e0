// Package hub is the shell of the hub: it keeps the catalog, the sites and their assignments on the bus, folds what sites report into one
// picture, and serves the API.
//
//	H1  Its state is on the bus and nowhere else. The data directory holds keys, and the embedded server's store; the View is a projection
//	    that every start builds again.
//	H2  It takes into the catalog what a release key signed and nothing else, verifies it again when it reads it back, and never a lower
//	    counter than the newest of the name.
//	H3  What is written is ordered so that a crash between two writes leaves nothing visible half done, and the same request again completes it.
//	H4  An assignment is changed by compare-and-swap on the bus; its sequence only grows.
//	H5  A site is told that an event is safe only after the event is on the disk and folded.
//	H6  Every fact it shows about a site carries its time; whether it is fresh is decided when somebody asks.
//	H7  Rollouts are decided by package rollout, on one hub of a bus at a time; what is decided is stored before it is done (rollouts.go, L1–L4).
//
// view.go, assign.go, rollout_facts.go and timeline.go decide without I/O or clock; the other files carry out.
package hub
