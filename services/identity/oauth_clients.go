package identity

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/services/identity/oauthclients"
)

// handleOAuthClients makes what keeps OAuth clients, and ties them to their folders.
func (s *Service) handleOAuthClients(limits *quota.Limits) {
	s.oauthClients = oauthclients.New(oauthclients.Deps{
		Unit: Name, Writes: s.writer(), Pages: s.pages, Limits: limits, Now: s.now,
		Site: func(ctx context.Context, folderID string) (cloudID string, path []audit.Resource, err error) {
			p, err := s.siteOf(ctx, folderID)
			return p.cloudID, p.path, err
		},
	})
	for name, resolve := range s.oauthClients.Resolvers() {
		s.resolvers[name] = resolve
	}
	s.removals.on(typeFolder, s.oauthClients.LetGoFolders)
}
