package resourcemanager

import (
	"errors"
	"fmt"
	"time"
)

// Config is what an operator may change. A zero field means its default.
type Config struct {
	// CloudsPerOrganization is the quota resource-manager.clouds.count (C-3).
	CloudsPerOrganization int64 `help:"Quota of clouds in an organization." default:"1000"`

	// FoldersPerCloud is the quota resource-manager.folders.count.
	FoldersPerCloud int64 `help:"Quota of folders in a cloud." default:"50"`

	// OrganizationsPerSubject is how many organizations a subject may create.
	OrganizationsPerSubject int64 `help:"Quota of organizations that a subject may create." default:"10"`

	// DeletionDelay is how long a deletion whose request names no time is pending
	// (DL-3, C-2).
	DeletionDelay time.Duration `help:"How long a deletion is pending when the request does not say." default:"24h"`
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	for name, n := range map[string]int64{
		"clouds per organization": c.CloudsPerOrganization, "folders per cloud": c.FoldersPerCloud,
		"organizations per subject": c.OrganizationsPerSubject, "deletion delay": int64(c.DeletionDelay),
	} {
		if n < 0 {
			errs = append(errs, fmt.Errorf("%s: %d is negative", name, n))
		}
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	orDefault(&c.CloudsPerOrganization, 1000)
	orDefault(&c.FoldersPerCloud, 50)
	orDefault(&c.OrganizationsPerSubject, 10)
	orDefault(&c.DeletionDelay, 24*time.Hour)
	return c
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
