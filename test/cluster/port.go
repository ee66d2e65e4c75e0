package cluster

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// heldPort is a TCP port of 127.0.0.1 that the kernel chose and that nobody else is given while it is held: the socket is
// bound, with SO_REUSEPORT, and never listens. The API server binds the same port with SO_REUSEPORT
// (--permit-port-sharing) and alone gets the connections; while it is down they are refused at once.
type heldPort struct {
	number int
	socket int
}

func reservePort() (*heldPort, error) {
	// Under the lock no child is forked between the two calls, which would inherit the socket and hold the port.
	syscall.ForkLock.RLock()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(socket)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", os.NewSyscallError("socket", err))
	}
	number, err := bindAnyPort(socket)
	if err != nil {
		return nil, fmt.Errorf("reserve a port: %w", errors.Join(err, unix.Close(socket)))
	}
	return &heldPort{number: number, socket: socket}, nil
}

func bindAnyPort(socket int) (int, error) {
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt SO_REUSEPORT", err)
	}
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	address, err := unix.Getsockname(socket)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return address.(*unix.SockaddrInet4).Port, nil
}

func (p *heldPort) release() error { return unix.Close(p.socket) }
