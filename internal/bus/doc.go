// Package bus is the way between hub and sites over NATS JetStream: the embedded server, who may do what on it, the hub's client and
// the edge's link. What the streams are is in package stream; membus is the twin in memory, bustest the suite both run.
//
// Guarantees:
//
//	B1  What a publisher was told is stored is on the disk: file storage, synced before the acknowledgement, asserted at start.
//	B2  A site reaches only its own. Two accounts: HUB owns all streams, SITES holds one user a site. SITES imports from HUB, with
//	    activation tokens, exactly the services a site needs, so that neither the reply subject of a request, which NATS does not check,
//	    nor anything under $JS.API beside those direct gets leads to another site's data. Each site's user has its own literal subjects
//	    and its own inbox. Bundles and their content are there for every site of the fleet to read.
//	B3  A subject of an immutable stream is written once; of the others the newest message stays; events are never dropped to make room.
//	B4  A link never gives up, never keeps messages in memory for later, and says at once when it knows that an answer will not come:
//	    without a connection, when the connection breaks, when the server refuses the subject.
//	B5  Nothing but the one TLS 1.3 port listens, and, where it is asked for, one for WebSocket, also TLS 1.3 and for the same users.
//
// A site cannot tell the server to read another subject than the one in the API subject: the server refuses a direct get that has both
// a subject and a payload that names one.
package bus
