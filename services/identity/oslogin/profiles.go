package oslogin

import (
	"context"
	"database/sql"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// Profile is an account that a subject has on the machines of an organization.
type Profile struct {
	ID             string
	OrganizationID string
	SubjectID      string
	Login          string // one of the organization has it
	UID            int64  // likewise
	HomeDirectory  string // "" for the usual one
	Shell          string // "" for the usual one
	Default        bool   // one of the subject's in the organization
	CreatedAt      time.Time
}

// What empty fields of a profile mean.
const (
	homes        = "/home/"
	defaultShell = "/bin/bash"
)

func (p Profile) proto() *orgv1.OsLoginProfile {
	m := &orgv1.OsLoginProfile{
		Id: p.ID, OrganizationId: p.OrganizationID, SubjectId: p.SubjectID, Login: p.Login, Uid: p.UID, IsDefault: p.Default,
		HomeDirectory: p.HomeDirectory, Shell: p.Shell,
	}
	if m.HomeDirectory == "" {
		m.HomeDirectory = homes + p.Login
	}
	if m.Shell == "" {
		m.Shell = defaultShell
	}
	return m
}

func (p Profile) position() page.Position {
	return page.Position{Time: sqldb.Micros(p.CreatedAt), ID: p.ID}
}

func (p Profile) resource() audit.Resource {
	return audit.Resource{Type: "organization-manager.osLoginProfile", ID: p.ID, Name: p.Login}
}

// GetProfile reads a profile. Fails: OS_LOGIN_PROFILE_NOT_FOUND.
func (s *logins) GetProfile(ctx context.Context, req *orgv1.GetOsLoginProfileRequest) (*orgv1.OsLoginProfile, error) {
	p, err := s.store.profile(ctx, s.Writes.DB, req.GetOsLoginProfileId(), "")
	if err != nil {
		return nil, err
	}
	return p.proto(), nil
}

// ListProfiles reads one page of the profiles of an organization, oldest first (NM-7).
func (s *logins) ListProfiles(ctx context.Context, req *orgv1.ListOsLoginProfilesRequest) (*orgv1.ListOsLoginProfilesResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "subject_id", "login")
	if err != nil {
		return nil, err
	}
	scope := []string{"OS Login profiles", req.GetOrganizationId(), f.Field, f.Value}
	after, err := s.Pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.profiles(ctx, req.GetOrganizationId(), f, after, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(orgv1.ListOsLoginProfilesResponse)
	for _, p := range found {
		resp.Profiles = append(resp.Profiles, p.proto())
	}
	fit := page.Fit(min(len(found), size), func(i int) int { return proto.Size(resp.GetProfiles()[i]) })
	if fit == len(found) {
		return resp, nil
	}
	resp.Profiles = resp.GetProfiles()[:fit]
	resp.NextPageToken, err = s.Pages.Seal(found[fit-1].position(), scope...)
	return resp, err
}

// CreateProfile makes a profile of a member; the first one of a subject is its default.
// Fails: MEMBERSHIP_NOT_FOUND, OS_LOGIN_TAKEN, OS_LOGIN_UID_TAKEN, QUOTA_EXCEEDED.
func (s *logins) CreateProfile(ctx context.Context, req *orgv1.CreateOsLoginProfileRequest) (*operationpb.Operation, error) {
	p := Profile{
		ID: id.New(id.OsLoginProfile), OrganizationID: req.GetOrganizationId(), SubjectID: req.GetSubjectId(), Login: req.GetLogin(),
		UID: req.GetUid(), HomeDirectory: req.GetHomeDirectory(), Shell: req.GetShell(), CreatedAt: s.Now(),
	}
	if p.SubjectID == "" {
		p.SubjectID = authn.FromContext(ctx).ID
	}
	if err := p.check(); err != nil {
		return nil, err
	}
	on := quota.Resource{Type: typeOrganization, ID: p.OrganizationID}
	limit, err := s.Limits.Limit(ctx, catalog.QuotaOsLoginProfiles, on)
	if err != nil {
		return nil, err
	}
	refusal := s.Belongs(ctx, p.OrganizationID, p.SubjectID) // no news to a replay
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		if refusal != nil {
			return w, refusal
		}
		n, err := s.lockProfiles(ctx, tx, p.OrganizationID)
		if err == nil {
			err = quota.Exceeded(catalog.QuotaOsLoginProfiles, on, limit, n, 1)
		}
		if err != nil {
			return w, err
		}
		if _, err := s.store.defaultProfile(ctx, tx, p.OrganizationID, p.SubjectID); apierr.ReasonOf(err) == ReasonProfileNotFound {
			p.Default = true
		} else if err != nil {
			return w, err
		}
		if err := s.store.insertProfile(ctx, tx, p); err != nil {
			return w, err
		}
		meta := &orgv1.CreateOsLoginProfileMetadata{OsLoginProfileId: p.ID, OrganizationId: p.OrganizationID, SubjectId: p.SubjectID}
		return s.changedProfile(ctx, tx, p, "Create", meta, p.proto())
	})
}

// check refuses what no machine takes: a home that is no absolute path, and texts that
// would be two fields of passwd(5).
func (p Profile) check() error {
	for _, f := range []struct{ name, value string }{{"home_directory", p.HomeDirectory}, {"shell", p.Shell}} {
		if f.value == "" {
			continue
		}
		if f.value[0] != '/' {
			return apierr.InvalidField(f.name, "must be an absolute path")
		}
		for _, c := range f.value {
			if c == ':' || c < ' ' || c == 0x7f {
				return apierr.InvalidField(f.name, "must have neither colons nor control characters")
			}
		}
	}
	return nil
}

// lockProfiles makes those follow one another who change profiles of an organization,
// and counts them.
func (s *Service) lockProfiles(ctx context.Context, tx *sql.Tx, organizationID string) (int64, error) {
	if err := sqldb.Lock(ctx, s.Writes.DB, tx, "OS Login profiles of "+organizationID); err != nil {
		return 0, err
	}
	return s.store.countProfiles(ctx, tx, organizationID)
}

// changedProfile makes the operation and the record of a change of a profile.
func (s *Service) changedProfile(ctx context.Context, tx *sql.Tx, p Profile, verb string, meta, response proto.Message) (writes.Made, error) {
	w, err := s.operation(ctx, tx, p.OrganizationID, permLogins, verb+" OS Login profile", meta, response)
	if err != nil {
		return w, err
	}
	return w, s.record(ctx, tx, verb+"OsLoginProfile", permSetLogins, p.OrganizationID, p.resource(),
		map[string]any{"operation_id": w.Op.ID, "subject_id": p.SubjectID, "login": p.Login, "uid": p.UID})
}

// change locks a profile and changes it.
func (s *logins) change(ctx context.Context, profileID string, fn func(context.Context, *sql.Tx, Profile) (writes.Made, error)) (*operationpb.Operation, error) {
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		p, err := s.store.profile(ctx, tx, profileID, "")
		if err != nil {
			return w, err
		}
		if _, err := s.lockProfiles(ctx, tx, p.OrganizationID); err != nil {
			return w, err
		}
		if p, err = s.store.profile(ctx, tx, profileID, s.Writes.DB.ForUpdate()); err != nil {
			return w, err
		}
		return fn(ctx, tx, p)
	})
}

// UpdateProfile changes the fields that the mask names. Fails:
// OS_LOGIN_PROFILE_NOT_FOUND, OS_LOGIN_TAKEN, OS_LOGIN_UID_TAKEN.
func (s *logins) UpdateProfile(ctx context.Context, req *orgv1.UpdateOsLoginProfileRequest) (*operationpb.Operation, error) {
	fields, err := masked(req.GetUpdateMask().GetPaths(), "os_login_profile_id", "login", "uid", "home_directory", "shell")
	if err != nil {
		return nil, err
	}
	return s.change(ctx, req.GetOsLoginProfileId(), func(ctx context.Context, tx *sql.Tx, p Profile) (w writes.Made, err error) {
		if fields["login"] {
			p.Login = req.GetLogin()
		}
		if fields["uid"] {
			p.UID = req.GetUid()
		}
		if fields["home_directory"] {
			p.HomeDirectory = req.GetHomeDirectory()
		}
		if fields["shell"] {
			p.Shell = req.GetShell()
		}
		if err := p.check(); err != nil {
			return w, err
		}
		if err := s.store.updateProfile(ctx, tx, p); err != nil {
			return w, err
		}
		return s.changedProfile(ctx, tx, p, "Update", &orgv1.UpdateOsLoginProfileMetadata{OsLoginProfileId: p.ID}, p.proto())
	})
}

// SetDefaultProfile makes a profile the default one of its subject. Fails:
// OS_LOGIN_PROFILE_NOT_FOUND.
func (s *logins) SetDefaultProfile(ctx context.Context, req *orgv1.SetDefaultOsLoginProfileRequest) (*operationpb.Operation, error) {
	return s.change(ctx, req.GetOsLoginProfileId(), func(ctx context.Context, tx *sql.Tx, p Profile) (w writes.Made, err error) {
		before, err := s.store.defaultProfile(ctx, tx, p.OrganizationID, p.SubjectID)
		if err != nil && apierr.ReasonOf(err) != ReasonProfileNotFound {
			return w, err
		}
		if before.ID != "" && before.ID != p.ID {
			before.Default = false
			if err := s.store.updateProfile(ctx, tx, before); err != nil {
				return w, err
			}
		}
		p.Default = true
		if err := s.store.updateProfile(ctx, tx, p); err != nil {
			return w, err
		}
		w, err = s.operation(ctx, tx, p.OrganizationID, permLogins, "Set default OS Login profile",
			&orgv1.SetDefaultOsLoginProfileMetadata{PreviousDefaultProfileId: before.ID, CurrentDefaultProfileId: p.ID}, p.proto())
		if err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, "SetDefaultProfile", permSetLogins, p.OrganizationID, p.resource(),
			map[string]any{"operation_id": w.Op.ID, "subject_id": p.SubjectID, "previous_default_profile_id": before.ID})
	})
}

// DeleteProfile removes a profile; the default one goes last. Fails:
// OS_LOGIN_PROFILE_NOT_FOUND, OS_LOGIN_PROFILE_IS_DEFAULT.
func (s *logins) DeleteProfile(ctx context.Context, req *orgv1.DeleteOsLoginProfileRequest) (*operationpb.Operation, error) {
	return s.change(ctx, req.GetId(), func(ctx context.Context, tx *sql.Tx, p Profile) (w writes.Made, err error) {
		if p.Default {
			n, err := s.store.countProfilesOf(ctx, tx, p.OrganizationID, p.SubjectID)
			if err == nil && n > 1 {
				err = errProfileIsDefault
			}
			if err != nil {
				return w, err
			}
		}
		if err := s.store.drop(ctx, tx, "identity_os_login_profiles", `id = $1`, p.ID); err != nil {
			return w, err
		}
		return s.changedProfile(ctx, tx, p, "Delete", &orgv1.DeleteOsLoginProfileMetadata{OsLoginProfileId: p.ID}, new(emptypb.Empty))
	})
}

// ProfilesOf is what an organization uses of its quota of profiles.
func (s *Service) ProfilesOf(ctx context.Context, organizationID string) (int64, error) {
	return s.store.countProfiles(ctx, s.Writes.DB, organizationID)
}
