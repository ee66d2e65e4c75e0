package edge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"go.uber.org/zap"

	"github.com/holdfast-fleet/holdfast/internal/buildinfo"
	"github.com/holdfast-fleet/holdfast/internal/bus/link"
	"github.com/holdfast-fleet/holdfast/internal/enrol/device"
	"github.com/holdfast-fleet/holdfast/internal/kube"
	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// errStopped says that the agent was told to stop before it was a site.
var errStopped = errors.New("stopped while waiting to become a site")

// become gives who this agent is: by a site file, or by enrolment, which takes until somebody approves.
func become(ctx context.Context, c Config) (*identity, error) {
	if c.Enrol == "" {
		who, err := identify(c.SiteFile, c.Log)
		if err != nil {
			return nil, hinted{fmt.Errorf("site file %s: %w", c.SiteFile, err), "make one at the desk: holdfast site add NAME -o NAME.site.json"}
		}
		return who, nil
	}
	site, err := device.Enrol(ctx, device.Options{
		Home: c.home(), File: c.Enrol, HostRoot: c.HostRoot, Agent: buildinfo.Version(), Proxy: c.Proxy, Log: c.Log, RetryMax: c.ReconnectMax,
		NodeLabel: func(ctx context.Context, key string) (string, error) {
			cluster, err := kube.Connect(c.Cluster)
			if err != nil {
				return "", err
			}
			return cluster.NodeLabel(ctx, c.Node, key)
		},
	})
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil, errStopped
	}
	if err != nil {
		return nil, err
	}
	who, err := checked(site, c.Log)
	if err != nil {
		return nil, hinted{fmt.Errorf("site %s, as it was enrolled: %w", site.Site, err), "if the enrolment file was edited, enrol again with a new one and an empty data folder"}
	}
	return who, nil
}

func (c Config) home() device.Home { return device.Home{Dir: c.Dir, KeyFile: c.KeyFile} }

// connect starts the link with the newest credential there is and, beside it, what keeps that from running out. disconnect ends both.
func connect(ctx context.Context, c Config, who *identity, store fleetsync.Store) (hub *link.Link, disconnect func(), err error) {
	if err := c.home().Newest(who.file); err != nil {
		c.Log.Warn("the credential of the site file is used", zap.Error(err))
	}
	keeper, err := device.NewKeeper(c.home(), *who.file, lasting{who.trust, store}, func(jwt string) { hub.Renew(jwt) }, c.Proxy, c.Log)
	if err != nil {
		return nil, nil, err
	}
	var dial func(network, address string) (net.Conn, error)
	if c.Proxy != nil {
		dial = c.Proxy.Dial
	}
	hub, err = link.Dial(link.Options{
		Dial: dial,
		Site: who.file.Site, Servers: who.file.Servers, CA: who.ca, JWT: who.file.JWT, Seed: who.file.Seed, Log: c.Log, RetryMax: c.ReconnectMax, Refused: keeper.Refused,
	})
	if err != nil {
		return nil, nil, err
	}
	keeping, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	if keeper != nil {
		running.Go(func() { keeper.Run(keeping) })
	}
	return hub, func() {
		cancel()
		running.Wait()
		_ = hub.Close()
	}, nil
}
