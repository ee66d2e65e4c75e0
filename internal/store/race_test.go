//go:build race

package store

// The race detector keeps a shadow of all memory.
func init() { mostMemory *= 4 }
