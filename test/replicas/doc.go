// Package replicas holds what three hubs on a cluster of three NATS nodes promise while some of them die, hang or are cut off: nothing that was
// acknowledged is lost, nothing is decided twice (F9), whatever their clocks say (F24).
//
// Nodes and hubs are processes of their own: this test program again, which TestMain has play a part. The nodes run the configuration that
// holdfast-hub nats-config prints; the lines between them can be cut.
package replicas
