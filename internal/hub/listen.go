package hub

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/holdfast-fleet/holdfast/internal/bus"
)

// listenAPI opens the API's port. The error says which port and why.
func listenAPI(address string) (net.Listener, error) {
	listener, err := net.Listen("tcp", address)
	if err == nil {
		return listener, nil
	}
	reason := err
	var op *net.OpError
	if errors.As(err, &op) {
		reason = op.Err
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, hinted{fmt.Errorf("api: listen %s: address already in use", address), "another hub or program has this port; stop it, or choose another with --listen-api"}
	case errors.Is(err, syscall.EACCES):
		return nil, hinted{fmt.Errorf("api: listen %s: permission denied", address), "choose a port above 1023 with --listen-api"}
	}
	return nil, hinted{fmt.Errorf("api: listen %s: %w", address, reason), "--listen-api wants host:port with a host of this machine"}
}

// connectBus reaches an external bus.
func (h *Hub) connectBus(ctx context.Context) (*bus.Hub, error) {
	external := h.cfg.External
	options := bus.HubOptions{URL: external.URL, Log: h.log.Named("bus")}
	if external.CA != nil {
		options.CA = x509.NewCertPool()
		if !options.CA.AppendCertsFromPEM(external.CA) {
			return nil, errors.New("bus: the CA file holds no certificate in PEM")
		}
	}
	if external.Credentials != nil {
		options.Credentials = *external.Credentials
	} else {
		credentials, err := h.keys.HubUser()
		if err != nil {
			return nil, err
		}
		options.Credentials = credentials
	}
	if h.servers = h.cfg.SiteURLs; h.servers == nil {
		for server := range strings.SplitSeq(external.URL, ",") {
			h.servers = append(h.servers, strings.TrimSpace(server))
		}
	}
	client, err := bus.ConnectHub(ctx, options)
	if err != nil {
		return nil, hinted{err, "holdfast-hub nats-config prints the configuration this bus needs"}
	}
	if err := h.connectSystem(options); err != nil {
		client.Close()
		return nil, err
	}
	return client, nil
}

// connectSystem has the hub speak for the system account of an external bus, which cuts off who is revoked. Where it is not let in the hub
// serves all the same, and warns.
func (h *Hub) connectSystem(options bus.HubOptions) error {
	if given := h.cfg.External.System; given != nil {
		options.Credentials = *given
	} else if made, err := h.keys.SystemUser(); err != nil {
		return err
	} else {
		options.Credentials = made
	}
	options.Log = h.log.Named("system")
	system, err := bus.ConnectSystem(options, h.keys)
	if err != nil {
		return err
	}
	h.system, h.revoker = system, system
	h.closers = append(h.closers, system.Close)
	return nil
}

// busKeys are the keys of the bus's operator and accounts.
func (k keyring) busKeys() (bus.Keys, error) {
	raw, err := k.once("bus.json", func() ([]byte, error) {
		made, err := bus.NewKeys()
		if err != nil {
			return nil, err
		}
		return json.MarshalIndent(made, "", "  ")
	})
	if err != nil {
		return bus.Keys{}, err
	}
	var keys bus.Keys
	if err := json.Unmarshal(raw, &keys); err != nil {
		return bus.Keys{}, fmt.Errorf("key file bus.json: %w", err)
	}
	return keys, nil
}

// BusConfig is the configuration of an external bus for the hub of this data directory, whose keys it makes where they are missing; resolver is as in bus.ServerConfig.
func BusConfig(dataDir, resolver string) (string, error) {
	ring, err := openKeyring(dataDir)
	if err != nil {
		return "", err
	}
	keys, err := ring.busKeys()
	if err != nil {
		return "", err
	}
	return bus.ServerConfig(keys, resolver)
}
