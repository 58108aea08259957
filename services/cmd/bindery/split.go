package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/server"
)

// splitFlags say where units in other processes are, and how the units know each
// other.
type splitFlags struct {
	Peer           map[string]string `placeholder:"UNIT=HOST:PORT" help:"Where a unit runs that is not in this process; HOST:PORT,HOST:PORT for replicas. Once for each."`
	TLSCA          string            `name:"tls-ca" placeholder:"FILE" help:"Authorities of the certificates of peers, PEM. Without it: those of the system, and plaintext on loopback."`
	UnitKey        string            `placeholder:"FILE" help:"Key by which peers know the units of this process, of bindery unit-key create."`
	TrustUnit      map[string]string `placeholder:"UNIT=FILE" help:"Public key of a unit in another process that calls this one, or of metering, which sends usage. Once for each."`
	AllowPlaintext bool              `help:"Accept plaintext from other machines, and without --tls-ca speak it to peers. For networks that nobody else is on."`
}

// set reads the keys into the options of a process.
func (f splitFlags) set(o *server.Options) error {
	o.Peers, o.TLS.CA, o.AllowPlaintext = f.Peer, f.TLSCA, f.AllowPlaintext
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(f.Peer)) {
		errs = append(errs, known("--peer", name))
	}
	if f.UnitKey != "" {
		key, err := authn.ReadUnitKey(f.UnitKey)
		o.UnitKey, errs = key, append(errs, err)
	}
	o.TrustedUnits = make(map[string]ed25519.PublicKey, len(f.TrustUnit))
	for _, name := range slices.Sorted(maps.Keys(f.TrustUnit)) {
		key, err := authn.ReadUnitPublicKey(f.TrustUnit[name])
		if name != authn.Metering {
			errs = append(errs, known("--trust-unit", name))
		}
		o.TrustedUnits[name], errs = key, append(errs, err)
	}
	return errors.Join(errs...)
}

// known refuses a name that no unit has: a slip in it would show much later.
func known(flag, name string) error {
	if _, err := choose([]string{name}); err != nil {
		return fmt.Errorf("%s: %w", flag, err)
	}
	return nil
}

type unitKeyCreateCommand struct {
	Out string `required:"" placeholder:"FILE" help:"File of the private key, for --unit-key. The public one, for --trust-unit, goes to FILE.pub."`
}

// Run makes a unit key and prints its public half.
func (c unitKeyCreateCommand) Run(out io.Writer) error {
	public, err := authn.CreateUnitKey(c.Out)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("a unit key is never replaced, it may be in use: %w", err)
	}
	if err != nil {
		return err
	}
	_, err = out.Write(public)
	return err
}
