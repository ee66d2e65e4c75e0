package proxy

import (
	"strings"
	"testing"
)

func TestT16_AProxysPasswordIsInNoError(t *testing.T) {
	for _, text := range []string{"socks5://user:canary@h:1", "http://user:canary@", "http://user:canary@h", "http://user:canary@h:1/path", "user:canary@h:1", "http://user:canary@h:x", "http://user:can ary%zz@h:1"} {
		if p, err := Parse(text); err == nil || p != nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v, %v", text, p, err)
		}
		t.Setenv("HTTPS_PROXY", text)
		if _, err := Parse(""); err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("HTTPS_PROXY %q: %v", text, err)
		}
	}
}

func TestNoProxyIsNone(t *testing.T) {
	t.Setenv("HTTPS_PROXY", "http://proxy.example:3128")
	if p, err := Parse("none"); p != nil || err != nil {
		t.Errorf("none: %v, %v", p, err)
	}
	t.Setenv("NO_PROXY", "10.0.0.0/8,.inside.example")
	p, err := Parse("")
	if err != nil || p == nil {
		t.Fatalf("%v, %v", p, err)
	}
}

func FuzzGranted(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n\r\n"))
	f.Add([]byte("\r\n\r\n"))
	f.Fuzz(func(t *testing.T, answer []byte) {
		if granted(answer) == nil && !strings.Contains(string(answer), "200") {
			t.Errorf("%q was taken for a grant", answer)
		}
	})
}
