// Package line is what the hub's and the site's end of the line to NATS have in common: timing, the names of the API they speak, and what
// errors mean.
package line

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast-fleet/holdfast/internal/bus/stream"
	"github.com/holdfast-fleet/holdfast/pkg/bundle"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Links are slow and far away: a handshake over a satellite takes seconds, and a write that moves on at all is given time.
const (
	PingInterval  = 4 * time.Minute
	PingsOut      = 2
	Handshake     = 15 * time.Second
	WriteDeadline = 30 * time.Second
)

// DirectGet is the API subject that reads the newest message of a subject, and can read nothing else.
func DirectGet(stream, subject string) string { return "$JS.API.DIRECT.GET." + stream + "." + subject }

// InboxPrefix begins the subjects of a site's answers.
func InboxPrefix(site bundle.SiteID) string { return "_INBOX_" + string(site) }

// FullJitter is a random pause below a bound that doubles with each attempt.
func FullJitter(least, most time.Duration, attempts int) time.Duration {
	bound := most
	if attempts < 30 {
		bound = min(most, least<<max(attempts-1, 0))
	}
	return time.Duration(rand.Int64N(int64(bound) + 1))
}

// Meaning gives an error of NATS one of our meanings where it has one.
func Meaning(err error) error {
	var api *jetstream.APIError
	switch {
	case errors.As(err, &api) && (api.ErrorCode == codeWrongLast || api.ErrorCode == codeWrongLastConstant):
		return stream.ErrConflict
	case errors.Is(err, nats.ErrReconnectBufExceeded), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrDisconnected),
		errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrNoResponders):
		return fmt.Errorf("%w: %w", fleetsync.ErrNoLink, err)
	case errors.Is(err, nats.ErrPermissionViolation):
		return fmt.Errorf("%w: %w", stream.ErrDenied, err)
	case errors.Is(err, nats.ErrMaxPayload):
		return fmt.Errorf("%w: %w", stream.ErrTooLarge, err)
	}
	return err
}

// Codes of JetStream's errors for a sequence that is not the expected one.
const (
	codeWrongLast         = 10071
	codeWrongLastConstant = 10164
)

// Bounded gives a context a deadline where it has none.
func Bounded(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, d)
}
