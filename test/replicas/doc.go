// Package replicas holds what the bus promises on a cluster of three NATS nodes while one of them dies or is cut off: nothing that was acknowledged is lost, and
// nothing old is taken for the newest (F9).
//
// Nodes are processes of their own: this test program again, with the configuration that holdfast-hub nats-config prints. The lines between them can be cut.
package replicas
