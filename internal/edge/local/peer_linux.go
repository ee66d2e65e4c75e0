package local

import "golang.org/x/sys/unix"

func credentials(fd int) peer {
	ucred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return peer{}
	}
	return peer{uid: int(ucred.Uid), known: true}
}
