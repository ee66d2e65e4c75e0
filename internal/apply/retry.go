package apply

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"
)

// The bounds of retrying one request.
const (
	retryAttempts = 8
	retryFirst    = 100 * time.Millisecond
	retryLongest  = 5 * time.Second
	// longestWish is the longest Retry-After that is obeyed; a server that asks for more is left to the caller.
	longestWish = 30 * time.Second
)

// retryPause is how long to wait before the attempt-th repetition (from 1), or ok false to give up. random is in [0,1).
func retryPause(attempt int, err error, random float64) (pause time.Duration, ok bool) {
	class := ClassOf(err)
	if class != Passing && class != Stale || attempt >= retryAttempts {
		return 0, false
	}
	pause = min(retryFirst<<(attempt-1), retryLongest)
	pause = pause/2 + time.Duration(random*float64(pause/2))
	var s *ServerError
	if errors.As(err, &s) && s.RetryAfter > 0 {
		if s.RetryAfter > longestWish {
			return 0, false
		}
		pause += s.RetryAfter
	}
	return pause, true
}

// try repeats a request while it fails for a passing reason.
func (e *Executor) try(ctx context.Context, request func() error) error {
	for attempt := 1; ; attempt++ {
		err := request()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		pause, ok := retryPause(attempt, err, rand.Float64())
		if !ok {
			return err
		}
		if e.options.wait(ctx, pause) != nil {
			return err
		}
	}
}
