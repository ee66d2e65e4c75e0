package device

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/proxy"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// Keeper keeps a site's credential from running out: it renews at half of its life, and at once when the bus refuses the one there is,
// however long ago that expired (F18).
type Keeper struct {
	home    Home
	site    fleetsync.SiteFile
	key     key
	hub     Believer
	caller  *caller
	use     func(jwt string)
	refused chan struct{}
	log     *zap.Logger

	// retryMin and retryMax bound the pause after a failure; restMin is the least between two renewals that succeed.
	retryMin, retryMax, restMin time.Duration
}

// Bounds of a Keeper's pauses.
const (
	keeperRetryMin = time.Second
	keeperRetryMax = 10 * time.Minute
	keeperRest     = time.Minute
)

// NewKeeper keeps the credential of a site whose hub signs with a key that it believes; use is given each new credential. It is nil, without an error, for a site file that names no hub to renew at.
func NewKeeper(home Home, site fleetsync.SiteFile, hub Believer, use func(jwt string), through *proxy.Proxy, log *zap.Logger) (*Keeper, error) {
	if len(site.Hubs) == 0 {
		return nil, nil
	}
	k, err := keyOf([]byte(site.Seed))
	if err != nil {
		return nil, err
	}
	c, err := newCaller(site.Hubs, site.HubCA, through)
	if err != nil {
		return nil, err
	}
	if log == nil {
		log = zap.NewNop()
	}
	return &Keeper{home: home, site: site, key: k, hub: hub, caller: c, use: use, refused: make(chan struct{}, 1), log: log,
		retryMin: keeperRetryMin, retryMax: keeperRetryMax, restMin: keeperRest}, nil
}

// Refused tells that the bus does not take the credential. It never blocks and may be called by a nil Keeper.
func (k *Keeper) Refused() {
	if k == nil {
		return
	}
	select {
	case k.refused <- struct{}{}:
	default:
	}
}

// Run renews until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	pause := k.retryMin
	wait := k.untilDue(time.Now())
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.refused:
			timer.Stop()
		case <-timer.C:
		}
		err := k.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			k.tell(err)
			// Refusals that come while it rests are about the same credential.
			if !k.rest(ctx, pause/2+mathrand.N(pause/2+1)) {
				return
			}
			pause, wait = min(2*pause, k.retryMax), 0
		default:
			// The wrong clock of a device must not make a renewal due for ever.
			pause, wait = k.retryMin, max(k.untilDue(time.Now()), k.restMin)
			k.drain()
		}
	}
}

func (k *Keeper) rest(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}

func (k *Keeper) drain() {
	select {
	case <-k.refused:
	default:
	}
}

func (k *Keeper) tell(err error) {
	var no *refused
	if errors.As(err, &no) {
		k.log.Error("the hub does not renew this site's credential: the site keeps running, and asks again", zap.String("why", no.text), zap.String("reason", string(no.reason)), zap.String("hint", no.hint))
		return
	}
	k.log.Warn("credential not renewed: will try again", zap.Error(err))
}

// untilDue is how long the credential needs no renewal; a year and a day for one that does not expire.
func (k *Keeper) untilDue(now time.Time) time.Duration {
	life, err := enrol.LifeOf(k.site.JWT)
	if err != nil {
		return 0
	}
	if life.Expires.IsZero() {
		return 366 * 24 * time.Hour
	}
	return max(life.RenewAt().Sub(now), 0)
}

// renew proves possession of the key on a challenge of the hub's and takes the new credential, for this very site and key.
func (k *Keeper) renew(ctx context.Context) error {
	raw, err := k.caller.call(ctx, "GET", "/v1/renewal", nil)
	if err != nil {
		return err
	}
	var challenge enrol.Challenge
	if err := json.Unmarshal(raw, &challenge); err != nil {
		return fmt.Errorf("the hub's challenge: %w", err)
	}
	renewal := enrol.Renewal{Nonce: challenge.Nonce, Site: k.site.Site, Key: k.key.public}
	sealed, err := fleetsync.Seal(enrol.TypeRenewal, renewal, k.key.private)
	if err != nil {
		return err
	}
	if raw, err = k.caller.call(ctx, "POST", "/v1/renewal", sealed); err != nil {
		return err
	}
	keys, _ := k.hub.HubKeys()
	renewed, err := enrol.OpenRenewed(raw, keys, renewal)
	if forged(err) {
		// A site that was away when the hub's key was rotated cannot read of it on the bus, which does not let it in.
		if failed := k.hub.Follow(ctx, trustAtHub{k.caller}); failed != nil {
			return errors.Join(err, fmt.Errorf("looking for a newer root of trust: %w", failed))
		}
		keys, _ = k.hub.HubKeys()
		renewed, err = enrol.OpenRenewed(raw, keys, renewal)
	}
	if err != nil {
		return err
	}
	if err := k.home.keepCredential(renewed.JWT); err != nil {
		// It is used all the same: the next start renews again.
		k.log.Warn("the renewed credential is not on the disk", zap.Error(err))
	}
	k.site.JWT = renewed.JWT
	k.use(renewed.JWT)
	k.log.Info("credential renewed")
	return nil
}
