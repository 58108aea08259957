package sqldb

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lockFile takes the lock of a SQLite file for this process: a file beside it,
// locked by the kernel, so that the lock goes with the process however it ends.
// A checker in memory is only right when nobody else writes to its store.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the path
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			err = fmt.Errorf("%s is in use by another bindery process", path)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
