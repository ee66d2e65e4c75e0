//go:build !linux

package local

import "os"

// credentials are not asked for here: the socket's mode is what guards it.
func credentials(int) peer { return peer{uid: os.Geteuid(), known: true} }
