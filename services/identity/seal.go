package identity

import (
	"context"
	"crypto/ed25519"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/services/identity/oslogin"
	"github.com/bindery-iam/bindery/services/identity/saml"
)

// sealedSigningKeys are the private keys of those that sign; empty in retired ones.
var sealedSigningKeys = secret.Column{
	Table: "identity_signing_keys", ID: "id", Value: "private_key", Kind: "iam token signing key", PlainSize: ed25519.PrivateKeySize,
}

// Sealed are the columns of this unit whose values are sealed.
func Sealed() []secret.Column {
	return []secret.Column{sealedSigningKeys, sealedAccessKeys, oslogin.SealedAuthorities, saml.SealedKeys}
}

// unseal opens the value of a row.
func unseal(s *secret.Sealer, c secret.Column, id string, sealed []byte) ([]byte, error) {
	return c.Open(s, id, sealed)
}

// reseal seals by the key that seals now what an older one sealed.
func reseal(ctx context.Context, tx *sql.Tx, s *secret.Sealer, c secret.Column) error {
	return c.Reseal(ctx, tx, s)
}
