package link

import (
	"net"
	"sync/atomic"

	fleetsync "github.com/holdfast-fleet/holdfast/pkg/sync"
)

// counter counts what goes over the line, TLS with it, over all connections of the link.
type counter struct{ in, out, connections atomic.Uint64 }

// count has a connection counted.
func (c *counter) count(conn net.Conn) net.Conn {
	c.connections.Add(1)
	return &counted{conn, c}
}

type counted struct {
	net.Conn
	of *counter
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.of.in.Add(uint64(max(n, 0)))
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.of.out.Add(uint64(max(n, 0)))
	return n, err
}

// Traffic is what went over the line since Dial, in bytes, TLS with it. TCP and IP headers are not counted.
func (l *Link) Traffic() fleetsync.TrafficStatus {
	return fleetsync.TrafficStatus{In: l.traffic.in.Load(), Out: l.traffic.out.Load(), Connections: l.traffic.connections.Load()}
}

// JWT is the credential with which the link connects.
func (l *Link) JWT() string {
	jwt, _ := l.currentJWT()
	return jwt
}
