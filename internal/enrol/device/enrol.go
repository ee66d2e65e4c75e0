// Package device is the edge's side of enrolment: the device's key and files, the request and its repetition, and the renewal of credentials.
//
//	D1  The device's key is made here and leaves the device never; only signatures do.
//	D2  Nothing is believed but answers over the pinned CA that a hub key of the file's root of trust, or of what its offline keys put in
//	    the place of that, signed for this very request. Whom the site believes afterwards comes from the enrolment file in the same way.
//	D3  Until it is a site, a device asks again for ever: nobody will come to press a button. Refusals make it slower and loud, not dead.
//	D4  A device that is a site needs neither the enrolment file nor the hub to start.
//	D5  A renewed credential is for the very same site and key, or it is not taken. Failing to renew never stops the agent.
package device

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/enrol"
	"github.com/holdfast-fleet/holdfast/internal/online"
	"github.com/holdfast-fleet/holdfast/internal/proxy"
	"github.com/holdfast-fleet/holdfast/internal/wholefile"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
	"github.com/holdfast-fleet/holdfast/pkg/verify/tuf"
)

// Options says how to enrol.
type Options struct {
	Home
	File     string // the enrolment file; not read by a device that is a site
	HostRoot string // where the machine's root file system is; empty is /
	Agent    string // version
	// NodeLabel reads a label of the node the agent is on; empty: it has none. nil: labels cannot be read.
	NodeLabel func(ctx context.Context, key string) (string, error)
	// RetryMin and RetryMax bound the pause before asking again: doubling, with jitter. 0 is 2 s and 5 min.
	RetryMin, RetryMax time.Duration
	Proxy              *proxy.Proxy
	Log                *zap.Logger // nil is silent
}

// Enrol gives the site this device is, and becomes one first where it is none: it asks until it is approved or ctx ends.
func Enrol(ctx context.Context, o Options) (*fleetsync.SiteFile, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.RetryMin <= 0 {
		o.RetryMin = 2 * time.Second
	}
	if o.RetryMax <= 0 {
		o.RetryMax = 5 * time.Minute
	}
	k, err := o.key()
	if err != nil {
		return nil, err
	}
	site, err := o.load(k)
	if site != nil || err != nil {
		return site, err
	}
	raw, err := wholefile.Read(o.File, enrol.MaxFile)
	if err != nil {
		return nil, hinted{fmt.Errorf("enrolment file: %w", err), "make one at the desk: holdfast token create -o enrol.json"}
	}
	file, err := enrol.DecodeFile(raw)
	if err != nil {
		return nil, hinted{err, "make one at the desk: holdfast token create -o enrol.json"}
	}
	a, err := newApplicant(o, file, k)
	if err != nil {
		return nil, err
	}
	if site, err = a.apply(ctx); err != nil {
		return nil, err
	}
	// Commit point: from here on this device is the site, whatever becomes of the enrolment file.
	if err := o.save(*site); err != nil {
		return nil, fmt.Errorf("site file: %w", err)
	}
	o.Log.Info("this device is a site now", zap.String("site", string(site.Site)))
	return site, nil
}

// applicant is a device that asks to be a site.
type applicant struct {
	Options
	file   *enrol.File
	key    key
	hub    []ed25519.PublicKey // of the file's root of trust
	caller *caller
	said   string // last, so that waiting is told once
}

func newApplicant(o Options, file *enrol.File, k key) (*applicant, error) {
	hub, err := hubKeys(file.Trust)
	if err != nil {
		return nil, fmt.Errorf("enrolment file: %w", err)
	}
	c, err := newCaller(file.Hubs, file.CA, o.Proxy)
	if err != nil {
		return nil, fmt.Errorf("enrolment file: %w", err)
	}
	return &applicant{Options: o, file: file, key: k, hub: hub, caller: c}, nil
}

// apply asks until the device is a site.
func (a *applicant) apply(ctx context.Context) (*fleetsync.SiteFile, error) {
	a.Log.Info("asking the hub to become a site", zap.Strings("hubs", a.file.Hubs), zap.String("words", enrol.Fingerprint(a.key.public)))
	pause := a.RetryMin
	for {
		reply, err := a.ask(ctx)
		if err == nil && reply.Status == enrol.Approved {
			return a.siteFile(reply), nil
		}
		a.tell(reply, err)
		if err == nil && reply.Status == enrol.Pending {
			pause = min(pause, 15*time.Second) // somebody is about to look
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(pause/2 + mathrand.N(pause/2+1)):
		}
		pause = min(2*pause, a.RetryMax)
	}
}

// tell says how it stands, once for each change.
func (a *applicant) tell(reply enrol.Reply, err error) {
	said := string(reply.Status) + reply.Why
	if err != nil {
		said = err.Error()
	}
	if said == a.said {
		return
	}
	a.said = said
	words := zap.String("words", enrol.Fingerprint(a.key.public))
	var no *refused
	switch {
	case errors.As(err, &no):
		a.Log.Error("enrolment refused: will ask again", zap.String("why", no.text), zap.String("reason", string(no.reason)), zap.String("hint", no.hint), words)
	case err != nil:
		a.Log.Warn("enrolment: no answer that counts: will ask again", zap.Error(err), words)
	case reply.Status == enrol.Rejected:
		a.Log.Error("enrolment rejected by an operator: will ask again", zap.String("site", string(reply.Site)), zap.String("why", reply.Why), words)
	default:
		a.Log.Info("waiting for approval", zap.String("site", string(reply.Site)), words)
	}
}

// ask makes one request and believes only the answer to it.
func (a *applicant) ask(ctx context.Context) (enrol.Reply, error) {
	facts := readFacts(rootOr(a.HostRoot))
	facts.Agent = a.Agent
	if label, named := a.file.Name.NodeLabel(); named && a.NodeLabel != nil {
		value, err := a.NodeLabel(ctx, label)
		if err != nil {
			return enrol.Reply{}, fmt.Errorf("node label %s: %w", label, err)
		}
		facts.NodeLabels = map[string]string{label: value}
	}
	var nonce [enrol.NonceSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return enrol.Reply{}, err
	}
	request := enrol.Request{Token: a.file.Token, Nonce: hex.EncodeToString(nonce[:]), Key: a.key.public, Facts: facts}
	sealed, err := fleetsync.Seal(enrol.TypeRequest, request, a.key.private)
	if err != nil {
		return enrol.Reply{}, err
	}
	answer, err := a.caller.call(ctx, "POST", "/v1/enrol", sealed)
	if err != nil {
		return enrol.Reply{}, err
	}
	reply, err := enrol.OpenReply(answer, a.hub, request)
	if !forged(err) {
		return reply, err
	}
	// The hub's key may have been rotated since the file was made: the offline keys that the file names prove the one of now.
	newer, hub, failed := follow(ctx, trustAtHub{a.caller}, a.file.Trust)
	if failed != nil {
		return reply, errors.Join(err, fmt.Errorf("looking for a newer root of trust: %w", failed))
	}
	a.file.Trust, a.hub = newer, hub
	return enrol.OpenReply(answer, a.hub, request)
}

func rootOr(root string) string {
	if root == "" {
		return "/"
	}
	return root
}

func (a *applicant) siteFile(reply enrol.Reply) *fleetsync.SiteFile {
	return &fleetsync.SiteFile{
		Schema: fleetsync.SiteFileSchema, Site: reply.Site, Servers: reply.Grant.Servers, CA: reply.Grant.CA, JWT: reply.Grant.JWT, Seed: a.key.seed,
		HeartBeatSeconds: reply.Grant.HeartBeat, Trust: a.file.Trust, Hubs: a.file.Hubs, HubCA: a.file.CA,
	}
}

// hubKeys are the keys that a root of trust names for the hub's answers.
func hubKeys(trust []byte) ([]ed25519.PublicKey, error) {
	metadata, err := tuf.Decode(trust)
	if err != nil {
		return nil, err
	}
	state, err := tuf.Load(metadata)
	if err != nil {
		return nil, err
	}
	return online.Assignment(state.Trust)
}
