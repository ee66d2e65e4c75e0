package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// Opening the socket changes nothing for what the process makes meanwhile, and the socket is its user's alone.
func TestTheSocketTakesNobodyElsesRights(t *testing.T) {
	dir, made := t.TempDir(), t.TempDir()
	for n := range 100 {
		ctx, stop := context.WithCancel(t.Context())
		ended, watched := make(chan error, 1), make(chan error, 1)
		done := make(chan struct{})
		go func() { ended <- Serve(ctx, dir, nil) }()
		go func() {
			for k := 0; ; k++ {
				path := filepath.Join(made, strconv.Itoa(n)+"-"+strconv.Itoa(k))
				err := os.Mkdir(path, 0o700)
				if info, stat := os.Stat(path); err == nil && stat == nil && info.Mode().Perm() != 0o700 {
					err = errors.New(path + " has mode " + info.Mode().String())
				}
				select {
				case <-done:
					watched <- err
					return
				default:
				}
				if err != nil {
					watched <- err
					return
				}
			}
		}()
		limit := time.After(10 * time.Second)
		for {
			info, err := os.Stat(filepath.Join(dir, SocketName))
			if err == nil && info.Mode().Perm() == 0o600 {
				break
			}
			select {
			case <-limit:
				t.Fatalf("the socket: %v, %v", info, err)
			default:
			}
		}
		close(done)
		if err := <-watched; err != nil {
			t.Fatal(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(filepath.Join(dir, SocketName))
	}
}
