package accessbindings

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// predecessor remembers, in a file that this process holds locked, under which id the
// process in this data directory answers. The kernel unlocks the file when the process
// is gone, however it ended: who gets the lock knows that the id in the file answers no
// more, and need not wait for its lease to run out. A nil predecessor remembers nothing.
type predecessor struct{ file *os.File }

// openPredecessor takes the file of a data directory. It is nil without one, and when
// another process has it: two replicas may be started in one directory.
func openPredecessor(dataDir string) (*predecessor, error) {
	if dataDir == "" {
		return nil, nil //nolint:nilnil // see predecessor
	}
	f, err := os.OpenFile(filepath.Join(dataDir, "accessbindings.replica"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, fmt.Errorf("open the file of the replica: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close() // nothing was done with it
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil //nolint:nilnil // see predecessor
		}
		return nil, fmt.Errorf("lock the file of the replica: %w", err)
	}
	return &predecessor{f}, nil
}

// id is what was written last; "" for nothing, or nothing whole.
func (p *predecessor) id() string {
	if p == nil {
		return ""
	}
	text, err := io.ReadAll(io.NewSectionReader(p.file, 0, 64))
	if err != nil {
		return ""
	}
	id, whole := strings.CutSuffix(string(text), "\n")
	if !whole {
		return ""
	}
	return id
}

// write remembers an id. It need not survive the machine: no process does.
func (p *predecessor) write(id string) error {
	if p == nil {
		return nil
	}
	if err := p.file.Truncate(0); err != nil {
		return fmt.Errorf("write the id of the replica: %w", err)
	}
	if _, err := p.file.WriteAt([]byte(id+"\n"), 0); err != nil {
		return fmt.Errorf("write the id of the replica: %w", err)
	}
	return nil
}

// close lets another have the file.
func (p *predecessor) close() error {
	if p == nil {
		return nil
	}
	return p.file.Close()
}
