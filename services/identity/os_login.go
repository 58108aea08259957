package identity

import (
	"context"
	"database/sql"
	"slices"

	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	"github.com/bindery-iam/bindery/services/identity/oslogin"
)

// handleOsLogin makes what signs people in to machines, and ties it to its subjects and
// organizations.
func (s *Service) handleOsLogin(base server.Base, limits *quota.Limits) {
	s.osLogin = oslogin.New(oslogin.Deps{
		Unit: Name, Writes: s.writer(), Pages: s.pages, Sealer: base.Sealer, Limits: limits, Decider: s.decider, Tree: s.tree, Now: s.now,
		Belongs: s.belongs,
	})
	for name, resolve := range s.osLogin.Resolvers() {
		s.resolvers[name] = resolve
	}
	s.removals.on(typeOrganization, s.osLogin.LetGoOrganizations)
	s.removals.on(typeAccount, s.osLogin.LetGoSubjects)
	s.departures = append(s.departures, s.osLogin.LetGoMember)
	s.deletions = append(s.deletions, func(ctx context.Context, tx *sql.Tx, userID string) error {
		return s.osLogin.LetGoSubjects(ctx, tx, []string{userID})
	})
}

// resealAuthorities seals by the key that seals now what an older one sealed.
func (s *Service) resealAuthorities(ctx context.Context) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return reseal(ctx, tx, s.sealer, oslogin.SealedAuthorities)
	})
}

// writer makes the writes of the packages that the unit serves.
func (s *Service) writer() writes.Writer {
	return writes.Writer{DB: s.store.db, Keys: s.once, Operations: s.operations, Jobs: s.jobs}
}

// belongs refuses a subject that is not there or does not belong to an organization:
// whoever is no member of it, and service accounts of others. Fails:
// MEMBERSHIP_NOT_FOUND.
func (s *Service) belongs(ctx context.Context, organizationID, subjectID string) error {
	found, err := s.entities(ctx, []string{subjectID})
	if err != nil {
		return err
	}
	e, there := found[subjectID]
	if !there || e.group != nil || e.system != nil || e.invitee != nil {
		return errMembershipNotFound
	}
	homes, _, err := s.homes(ctx, e)
	if err != nil {
		return err
	}
	if !slices.Contains(homes, organizationID) {
		return errMembershipNotFound
	}
	return nil
}
