// Package proxy is the way out of a network that lets connections through an HTTP proxy alone: CONNECT, with basic authentication. What is
// carried is TLS from end to end; the proxy learns the hub's name and no more. A password never stands in an error.
package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/http/httpproxy"
)

const (
	timeout   = 15 * time.Second // for the connection and the proxy's answer
	maxAnswer = 16 << 10         // bytes of the proxy's answer
)

// Proxy says through which proxy a host is reached. Nil is none. It may be used concurrently.
type Proxy struct {
	of func(*url.URL) (*url.URL, error)
}

// Parse reads an http:// or https:// URL; "" is what HTTPS_PROXY and NO_PROXY say, where they say something, and "none" is none.
func Parse(text string) (*Proxy, error) {
	switch text {
	case "none":
		return nil, nil
	case "":
		environment := httpproxy.FromEnvironment()
		if environment.HTTPSProxy == "" {
			return nil, nil
		}
		if _, err := parse(environment.HTTPSProxy); err != nil {
			return nil, fmt.Errorf("HTTPS_PROXY: %w", err)
		}
		return &Proxy{environment.ProxyFunc()}, nil
	}
	u, err := parse(text)
	if err != nil {
		return nil, err
	}
	return &Proxy{func(*url.URL) (*url.URL, error) { return u, nil }}, nil
}

func parse(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	// The text itself is left out: it may hold a password.
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || u.Path != "" && u.Path != "/" {
		return nil, errors.New("proxy: want http://host:port or https://host:port, with user:password@ before the host where it asks for them")
	}
	return u, nil
}

// For is the proxy of a request, for http.Transport.
func (p *Proxy) For(r *http.Request) (*url.URL, error) {
	if p == nil {
		return nil, nil
	}
	return p.of(r.URL)
}

// Dial connects to an address through its proxy.
func (p *Proxy) Dial(network, address string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: timeout}
	if p == nil {
		return dialer.Dial(network, address)
	}
	through, err := p.of(&url.URL{Scheme: "https", Host: address})
	if err != nil {
		return nil, errors.New("proxy: its address cannot be read")
	}
	if through == nil {
		return dialer.Dial(network, address)
	}
	conn, err := reach(dialer, through)
	if err == nil {
		if err = connect(conn, through.User, address); err != nil {
			_ = conn.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("proxy %s: %w", through.Host, err)
	}
	return conn, nil
}

func reach(dialer *net.Dialer, through *url.URL) (net.Conn, error) {
	if through.Scheme == "https" {
		return tls.DialWithDialer(dialer, "tcp", through.Host, &tls.Config{MinVersion: tls.VersionTLS12})
	}
	return dialer.Dial("tcp", through.Host)
}

// connect asks for the tunnel. It reads no byte beyond the answer: what follows is the server's.
func connect(conn net.Conn, user *url.Userinfo, address string) error {
	if err := conn.SetDeadline(time.Now().Add(timeout)); err != nil {
		return err
	}
	var ask bytes.Buffer
	fmt.Fprintf(&ask, "CONNECT %s HTTP/1.1\r\nHost: %s\r\n", address, address)
	if user != nil {
		password, _ := user.Password()
		fmt.Fprintf(&ask, "Proxy-Authorization: Basic %s\r\n", base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	ask.WriteString("\r\n")
	if _, err := conn.Write(ask.Bytes()); err != nil {
		return err
	}
	var answer []byte
	for one := make([]byte, 1); !bytes.HasSuffix(answer, []byte("\r\n\r\n")); answer = append(answer, one[0]) {
		if len(answer) >= maxAnswer {
			return fmt.Errorf("its answer has more than %d bytes", maxAnswer)
		}
		if _, err := conn.Read(one); err != nil {
			return fmt.Errorf("its answer: %w", err)
		}
	}
	if err := granted(answer); err != nil {
		return fmt.Errorf("no way to %s: %w", address, err)
	}
	return conn.SetDeadline(time.Time{})
}

// granted reads the proxy's answer to CONNECT.
func granted(answer []byte) error {
	response, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return errors.New("its answer is no HTTP")
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %.100q", response.Status)
	}
	return nil
}
