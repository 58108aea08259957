package oslogin

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// logins is yandex.cloud.organizationmanager.v1.OsLoginService.
type logins struct {
	orgv1.UnsafeOsLoginServiceServer // a missing method does not compile
	*Service
}

// Settings are what an organization allows; the zero value allows nothing.
type Settings struct {
	SSHKeys      bool // machines take the keys of people
	OwnKeys      bool // people manage theirs
	Certificates bool
}

func (t Settings) proto() *orgv1.OsLoginSettings {
	return &orgv1.OsLoginSettings{
		UserSshKeySettings:     &orgv1.UserSshKeySettings{Enabled: t.SSHKeys, AllowManageOwnKeys: t.OwnKeys},
		SshCertificateSettings: &orgv1.SshCertificateSettings{Enabled: t.Certificates},
	}
}

// GetSettings reads the settings of an organization; those that were never set are off.
func (s *logins) GetSettings(ctx context.Context, req *orgv1.GetOsLoginSettingsRequest) (*orgv1.OsLoginSettings, error) {
	t, err := s.store.settings(ctx, s.Writes.DB, req.GetOrganizationId())
	if err != nil {
		return nil, err
	}
	return t.proto(), nil
}

// UpdateSettings changes the settings that the mask names, each as a whole: a message
// that is not there turns all of it off (clients.md B3).
func (s *logins) UpdateSettings(ctx context.Context, req *orgv1.UpdateOsLoginSettingsRequest) (*operationpb.Operation, error) {
	const keys, certificates = "user_ssh_key_settings", "ssh_certificate_settings"
	fields, err := masked(req.GetUpdateMask().GetPaths(), "organization_id", keys, certificates)
	if err != nil {
		return nil, err
	}
	organizationID := req.GetOrganizationId()
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		if err := sqldb.Lock(ctx, s.Writes.DB, tx, "OS Login settings of "+organizationID); err != nil {
			return w, err
		}
		t, err := s.store.settings(ctx, tx, organizationID)
		if err != nil {
			return w, err
		}
		if fields[keys] {
			t.SSHKeys, t.OwnKeys = req.GetUserSshKeySettings().GetEnabled(), req.GetUserSshKeySettings().GetAllowManageOwnKeys()
		}
		if fields[certificates] {
			t.Certificates = req.GetSshCertificateSettings().GetEnabled()
		}
		if err := s.store.putSettings(ctx, tx, organizationID, t); err != nil {
			return w, err
		}
		w, err = s.operation(ctx, tx, organizationID, permLogins, "Update OS Login settings",
			&orgv1.UpdateOsLoginSettingsMetadata{OrganizationId: organizationID}, t.proto())
		if err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, "UpdateOsLoginSettings", permSetLogins, organizationID, audit.Resource{}, map[string]any{
			"operation_id": w.Op.ID, "user_ssh_keys": t.SSHKeys, "own_ssh_keys": t.OwnKeys, "ssh_certificates": t.Certificates,
		})
	})
}

// store is the tables of the package.
type store struct{ db *sqldb.DB }

func (s *store) settings(ctx context.Context, q sqldb.Querier, organizationID string) (t Settings, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT ssh_keys, own_keys, certificates FROM identity_os_login_settings WHERE organization_id = $1`, organizationID).
		Scan(&t.SSHKeys, &t.OwnKeys, &t.Certificates)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return t, fmt.Errorf("read OS Login settings: %w", err)
	}
	return t, nil
}

func (s *store) putSettings(ctx context.Context, tx *sql.Tx, organizationID string, t Settings) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_os_login_settings (organization_id, ssh_keys, own_keys, certificates) VALUES ($1, $2, $3, $4)
		ON CONFLICT (organization_id) DO UPDATE SET ssh_keys = $2, own_keys = $3, certificates = $4`,
		organizationID, t.SSHKeys, t.OwnKeys, t.Certificates)
	if err != nil {
		return fmt.Errorf("write OS Login settings: %w", err)
	}
	return nil
}

// drop removes the rows of a table that a condition names.
func (s *store) drop(ctx context.Context, tx *sql.Tx, table, condition string, args ...any) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE `+condition, args...); err != nil { //nolint:gosec // names of our own
		return fmt.Errorf("drop from %s: %w", table, err)
	}
	return nil
}

// mustChange is notFound when a statement changed no row.
func mustChange(res sql.Result, err error, what string, none *apierr.Error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	} else if n == 0 {
		return none
	}
	return nil
}
