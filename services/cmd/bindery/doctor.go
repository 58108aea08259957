package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/services/doctor"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/notifications"
)

type doctorCommand struct {
	JSON    bool   `name:"json" help:"Print the findings as JSON."`
	TLSCert string `name:"tls-cert" placeholder:"FILE" help:"Certificate that is served; the one in the data directory when empty."`
	storeFlags
	sealFlags
}

// errUnwell ends the command with exit code 1.
var errUnwell = errors.New("something is wrong: see above")

// Run prints what every check found.
func (c doctorCommand) Run(ctx context.Context, out io.Writer) error {
	o := doctor.Options{DataDir: c.DataDir, CertPEM: c.TLSCert, SealKey: c.file(c.storeFlags), Now: time.Now, Open: c.reader}
	for _, u := range owners() {
		unit := doctor.Unit{Name: u.Name, Migrations: u.Migrations}
		switch u.Name {
		case identity.Name:
			unit.Sealed = identity.Sealed()
		case notifications.Name:
			unit.Sealed = notifications.Sealed()
		}
		o.Units = append(o.Units, unit)
	}
	report := doctor.Run(ctx, o)
	if err := c.print(out, report); err != nil {
		return err
	}
	if !report.Healthy() {
		return errUnwell
	}
	return nil
}

// print writes a line for each finding, or the whole as JSON.
func (c doctorCommand) print(out io.Writer, report doctor.Report) error {
	if c.JSON {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"healthy": report.Healthy(), "findings": report})
	}
	for _, f := range report {
		state := string(f.State)
		if f.State == doctor.Wrong {
			state = strings.ToUpper(state)
		}
		if _, err := fmt.Fprintf(out, "%-6s %s: %s\n", state, f.Check, f.Text); err != nil {
			return err
		}
	}
	return nil
}
