package oslogin

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

const (
	// certificateLife is how long a certificate is good: nothing takes it back.
	certificateLife = time.Hour
	// certificateSlack is how far the clock of a machine may be behind.
	certificateSlack = time.Minute
)

// extensions of a certificate: what a session may do beside running commands
// (PROTOCOL.certkeys of OpenSSH).
var extensions = map[string]string{"permit-pty": "", "permit-port-forwarding": "", "permit-agent-forwarding": "", "permit-user-rc": ""}

// SealedAuthorities are the private keys that sign certificates.
var SealedAuthorities = secret.Column{Table: "identity_ssh_authorities", ID: "organization_id", Value: "private_key", Kind: "ssh authority key"}

// certificates is yandex.cloud.organizationmanager.v1.SshCertificateService.
type certificates struct {
	orgv1.UnsafeSshCertificateServiceServer // a missing method does not compile
	*Service
}

// Generate signs a public key for the login of a profile, for an hour. Everybody may for
// their own profiles; for those of others it takes the permission that would let them
// give those a key. Fails: SSH_CERTIFICATES_DISABLED, OS_LOGIN_PROFILE_NOT_FOUND,
// RESOURCE_NOT_FOUND.
func (s *certificates) Generate(ctx context.Context, req *orgv1.GenerateSshCertificateRequest) (*orgv1.GenerateSshCertificateResponse, error) {
	parsed, err := parseKey("public_key", req.GetPublicKey())
	if err != nil {
		return nil, err
	}
	organizationID, err := s.scope(ctx, req)
	if err != nil {
		return nil, err
	}
	p, err := s.certified(ctx, organizationID, req)
	if err != nil {
		return nil, err
	}
	t, err := s.store.settings(ctx, s.Writes.DB, organizationID)
	if err == nil && !t.Certificates {
		err = errCertificatesOff
	}
	if err == nil {
		err = s.Belongs(ctx, organizationID, p.SubjectID) // who has just left has a profile for a moment more
	}
	if err != nil {
		return nil, err
	}
	signer, err := s.authority(ctx, organizationID)
	if err != nil {
		return nil, err
	}
	now := s.Now()
	cert, err := certify(signer, parsed.key, p, now)
	if err != nil {
		return nil, err
	}
	err = sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
		return s.issued(ctx, tx, p, cert, parsed.fingerprint, now)
	})
	if err != nil {
		return nil, err
	}
	return &orgv1.GenerateSshCertificateResponse{SignedCertificate: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(cert)))}, nil
}

// scope is the organization where a certificate is to be good. Fails:
// RESOURCE_NOT_FOUND.
func (s *Service) scope(ctx context.Context, req *orgv1.GenerateSshCertificateRequest) (string, error) {
	if _, ofCloud := req.GetScope().(*orgv1.GenerateSshCertificateRequest_CloudId); !ofCloud {
		if req.GetOrganizationId() == "" {
			return "", apierr.InvalidField("organization_id", "must not be empty")
		}
		return req.GetOrganizationId(), nil
	}
	if req.GetCloudId() == "" {
		return "", apierr.InvalidField("cloud_id", "must not be empty")
	}
	resp, err := s.Tree.GetResourcePath(server.AsUnit(ctx), &accessv1.GetResourcePathRequest{
		Resource: &accessv1.Resource{Type: "resource-manager.cloud", Id: req.GetCloudId()},
	})
	if err != nil {
		return "", apierr.FromRPC(err)
	}
	return resp.GetPath()[len(resp.GetPath())-1].GetId(), nil
}

// certified is the profile that a certificate is for. Whoever may not get one for it is
// told of no profile.
func (s *Service) certified(ctx context.Context, organizationID string, req *orgv1.GenerateSshCertificateRequest) (p Profile, err error) {
	caller := authn.FromContext(ctx)
	others := s.Decider.Authorize(ctx, caller, permManageKeys, organization(organizationID))
	if others != nil && apierr.CodeOf(others) != codes.PermissionDenied {
		return p, others
	}
	subjectID := req.GetSubjectId()
	if subjectID == "" {
		subjectID = caller.ID
	}
	switch {
	case req.GetOsLogin() != "":
		p, err = s.store.profileByLogin(ctx, s.Writes.DB, organizationID, req.GetOsLogin())
	case subjectID != caller.ID && others != nil:
		return p, others
	default:
		p, err = s.store.defaultProfile(ctx, s.Writes.DB, organizationID, subjectID)
	}
	switch {
	case errors.Is(err, errProfileNotFound):
		return p, errNoSuchProfile
	case err == nil && p.SubjectID != caller.ID && others != nil:
		return p, errNoSuchProfile
	}
	return p, err
}

// certify makes the certificate of a key for a profile.
func certify(signer ssh.Signer, key ssh.PublicKey, p Profile, now time.Time) (*ssh.Certificate, error) {
	var serial [8]byte
	_, _ = rand.Read(serial[:]) // never fails: the runtime ends the process instead
	cert := &ssh.Certificate{
		Key: key, Serial: binary.BigEndian.Uint64(serial[:]), CertType: ssh.UserCert, KeyId: p.SubjectID, ValidPrincipals: []string{p.Login},
		ValidAfter: uint64(now.Add(-certificateSlack).Unix()), ValidBefore: uint64(now.Add(certificateLife).Unix()), //nolint:gosec // after 1970
		Permissions: ssh.Permissions{Extensions: extensions},
	}
	if err := cert.SignCert(rand.Reader, signer); err != nil {
		return nil, fmt.Errorf("sign SSH certificate: %w", err)
	}
	return cert, nil
}

// issued records a certificate (AU-3).
func (s *Service) issued(ctx context.Context, tx *sql.Tx, p Profile, cert *ssh.Certificate, fingerprint string, now time.Time) error {
	on := audit.Resource{Type: typeOrganization, ID: p.OrganizationID}
	e := audit.Event{
		Source: "iam", Name: "oslogin.GenerateSshCertificate", At: now, Path: []audit.Resource{on, p.resource()},
		Details: map[string]any{
			"subject_id": p.SubjectID, "login": p.Login, "fingerprint": fingerprint, "serial": fmt.Sprint(cert.Serial),
			"expires_at": now.Add(certificateLife),
		},
	}
	if authn.FromContext(ctx).ID != p.SubjectID {
		e.Permission, e.On = permManageKeys, on
	}
	return audit.Write(ctx, tx, s.Unit, e.Record(ctx, s.Unit))
}

// authority is what signs for an organization; it is made when first asked for, by
// whichever process is first.
func (s *Service) authority(ctx context.Context, organizationID string) (ssh.Signer, error) {
	sealed, err := s.store.authority(ctx, s.Writes.DB, organizationID)
	if errors.Is(err, sql.ErrNoRows) {
		_, private, genErr := ed25519.GenerateKey(rand.Reader)
		if genErr != nil {
			return nil, fmt.Errorf("make SSH authority: %w", genErr)
		}
		fresh := s.Sealer.Seal(SealedAuthorities.Purpose(organizationID), private.Seed())
		err = sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
			if err := s.store.insertAuthority(ctx, tx, organizationID, fresh, s.Now()); err != nil {
				return err
			}
			sealed, err = s.store.authority(ctx, tx, organizationID)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read SSH authority: %w", err)
	}
	seed, err := SealedAuthorities.Open(s.Sealer, organizationID, sealed)
	if err != nil {
		return nil, err
	}
	if len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("SSH authority of %s has %d bytes", organizationID, len(seed))
	}
	signer, err := ssh.NewSignerFromKey(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, fmt.Errorf("read SSH authority: %w", err)
	}
	return signer, nil
}

// authorities is bindery.identity.v1.SshAuthorityService.
type authorities struct {
	identityv1.UnsafeSshAuthorityServiceServer // a missing method does not compile
	*Service
}

// GetSshAuthority reads the public key that the machines of an organization have to
// trust.
func (s *authorities) GetSshAuthority(ctx context.Context, req *identityv1.GetSshAuthorityRequest) (*identityv1.SshAuthority, error) { //nolint:revive // the name of the RPC
	signer, err := s.authority(ctx, req.GetOrganizationId())
	if err != nil {
		return nil, err
	}
	return &identityv1.SshAuthority{
		OrganizationId: req.GetOrganizationId(), PublicKey: strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))),
	}, nil
}

// authority reads the sealed key of an organization; sql.ErrNoRows where it has none.
func (s *store) authority(ctx context.Context, q sqldb.Querier, organizationID string) (sealed []byte, err error) {
	err = q.QueryRowContext(ctx, `SELECT private_key FROM identity_ssh_authorities WHERE organization_id = $1`, organizationID).Scan(&sealed)
	return sealed, err
}

// insertAuthority keeps a key, unless the organization has one by now.
func (s *store) insertAuthority(ctx context.Context, tx *sql.Tx, organizationID string, sealed []byte, now time.Time) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_ssh_authorities (organization_id, private_key, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		organizationID, sealed, sqldb.Micros(now))
	if err != nil {
		return fmt.Errorf("insert SSH authority: %w", err)
	}
	return nil
}
